"""An optimizer around another one, with which it shares parameter groups, state and defaults."""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer


class Wrapper(Optimizer):
    """Show the groups, state and defaults of `inner`, which are one for both; `inner` is set by the class below."""

    inner: Optimizer

    # One source of truth: never a copy, as load_state_dict replaces these objects in the inner optimizer. They can be
    # assigned, as in torch.
    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The inner optimizer's parameter groups."""
        return self.inner.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.inner.param_groups = groups

    @property
    def state(self) -> dict[Tensor, Any]:
        """The inner optimizer's state, slow weights included: without them a parameter's next step is its first."""
        return self.inner.state

    @state.setter
    def state(self, state: dict[Tensor, Any]) -> None:
        self.inner.state = state

    @property
    def defaults(self) -> dict[str, Any]:
        """The inner optimizer's defaults."""
        return self.inner.defaults

    @defaults.setter
    def defaults(self, defaults: dict[str, Any]) -> None:
        self.inner.defaults = defaults

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Reset the gradients, as the inner optimizer does."""
        self.inner.zero_grad(set_to_none=set_to_none)
