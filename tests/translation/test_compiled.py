"""The Transformer under torch.compile: the same numbers, and as few graphs as it takes."""

from __future__ import annotations

import torch

from tests.helpers.plain_transformer import small_model


def test_it_is_one_graph_in_training_and_one_in_evaluations_with_the_loss_outside():
    graphs = []

    def counted(graph, _):
        graphs.append(graph)
        return graph

    torch.compiler.reset()
    model = small_model()
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 5, (4, 6, 8), generator=generator)
    targets, weights = torch.randint(0, 5, (4, 8), generator=generator), torch.rand(4, 8, generator=generator)
    compiled = torch.compile(model, backend=counted, dynamic=False)
    for training, smoothing in ((True, 0.1), (False, 0.0), (True, 0.1), (False, 0.0)):
        model.train(training)
        expected = model(inputs, targets, weights, smoothing)
        found = compiled(inputs, targets, weights, smoothing)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        gradients = torch.autograd.grad(expected, list(model.parameters()))
        for one, other in zip(torch.autograd.grad(found, list(model.parameters())), gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert len(graphs) == 2
    assert not any("cross_entropy" in str(node.target) for graph in graphs for node in graph.graph.nodes)
    torch.compiler.reset()
