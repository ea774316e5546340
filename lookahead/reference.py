"""Algorithm 1 in plain lines: what the tests compare the optimizer with; not for training."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def lookahead(
    fast: Sequence[Tensor],
    inner: torch.optim.Optimizer,
    inner_step: Callable[[], object],
    k: int,
    alpha: float,
    inner_state: str = "maintain",
    moments: Sequence[str] = (),
    outer_momentum: float = 0.0,
    nesterov: bool = True,
) -> Iterator[list[Tensor]]:
    """Yield the slow weights phi_1, phi_2, ... of Algorithm 1, while `fast` holds the fast weights theta.

    `inner_step()` samples a minibatch, sets the gradients of `fast` and calls `inner.step`. `moments` names
    the inner state (`exp_avg`, say) that "interpolate" and "reset" act on (Section 2, Appendix D.1).
    With an `outer_momentum` mu the outer update is SGD's with momentum along s = phi - theta_k (SNOO, DiLoCo).
    """
    slow = [theta.detach().clone() for theta in fast]  # phi_0 = theta_0
    slow_moments = [{name: torch.zeros_like(theta) for name in moments} for theta in fast]  # before the first step
    buffer = [torch.zeros_like(theta) for theta in slow]  # b
    while True:
        for _ in range(k):
            inner_step()  # theta_{t,i} = theta_{t,i-1} + A(L, theta_{t,i-1}, d)
        for n, theta in enumerate(fast):
            s = slow[n] - theta.detach()
            buffer[n] = outer_momentum * buffer[n] + s
            # Without momentum this is Equation 1.
            slow[n] = slow[n] - alpha * (outer_momentum * buffer[n] + s if nesterov else buffer[n])
            theta.data.copy_(slow[n])  # theta_{t+1,0} = phi_t
            for name in moments:
                moment = inner.state[theta][name]
                if inner_state == "interpolate":
                    slow_moments[n][name] = slow_moments[n][name] + alpha * (moment - slow_moments[n][name])
                    moment.copy_(slow_moments[n][name])
                elif inner_state == "reset":
                    moment.zero_()
            if inner_state == "reset" and "step" in inner.state[theta]:
                inner.state[theta]["step"].zero_()
        yield [phi.clone() for phi in slow]
