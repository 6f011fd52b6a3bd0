"""The benchmarks on loads that take a moment: what they compare is comparable, and their arithmetic is right."""

import pytest
import torch

from astrai.config import EngineConfig
from astrai.model.transformer import Transformer
from benchmarks import hugging_face
from benchmarks.agreement import disagreements
from benchmarks.loads import mixed, serve, with_shared_prefix
from benchmarks.measure import Spread, in_turn, ratios
from benchmarks.sharing import Costs, Sizes, phase_costs, predicted_gain
from tests.benchmarks.micro import MICRO


@pytest.fixture(scope="module")
def model() -> Transformer:
    return Transformer.random(MICRO, seed=0)


def test_both_sides_of_the_comparison_compute_the_same_tokens(model: Transformer) -> None:
    requests = mixed(5, (3, 20), (2, 9))
    results, seconds = serve(model, requests, EngineConfig(num_slots=2))
    ours = [result.token_ids for result in results]
    theirs = hugging_face.generate(hugging_face.llama(model), requests, batch_size=2)
    assert [len(tokens) for tokens in theirs] == [request.sampling.max_tokens for request in requests]
    assert all(each.is_tie for each in disagreements(model, requests, ours, theirs))
    assert seconds.cpu > 0 and seconds.wall > 0


def test_a_wrong_token_is_told_from_a_tie(model: Transformer) -> None:
    (request,) = mixed(1, (8, 8), (4, 4))
    ids = serve(model, [request], EngineConfig(num_slots=1))[0][0].token_ids
    with torch.inference_mode():
        worst = int(model(torch.tensor([[*request.prompt, *ids[:2]]]))[0, -1].argmin())
    wrong = (*ids[:2], worst, ids[3])
    assert disagreements(model, [request], [ids], [ids]) == []
    (found,) = disagreements(model, [request], [ids], [wrong])
    assert (found.index, found.position, found.is_tie) == (0, 2, False)


def test_the_prediction_counts_the_shared_prefix_once() -> None:
    sizes = Sizes(requests=4, shared_len=90, own_len=10, shared_output_len=11)
    # Four prompts of 100 against 90 + 4 * 10, at one second each, and 40 decoded tokens at half a second on both sides.
    assert predicted_gain(Costs(prefill=1.0, decode=0.5), sizes) == (400 + 20) / (130 + 20)


def test_phase_costs_count_every_token(model: Transformer) -> None:
    costs = phase_costs(model, mixed(3, (10, 10), (5, 5)))
    assert costs.prefill > 0 and costs.decode > 0


def test_requests_with_a_shared_prefix_share_exactly_that() -> None:
    a, b = (request.prompt for request in with_shared_prefix(2, shared_len=12, own_len=5, output_len=1))
    assert a[:12] == b[:12] and a[12:] != b[12:] and len(a) == len(b) == 17


def test_contenders_run_in_turn_and_swap_places() -> None:
    order: list[str] = []
    results = in_turn(3, {name: lambda name=name: order.append(name) or len(order) for name in "ab"})
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert results == {"a": [1, 4, 5], "b": [2, 3, 6]}


def test_a_spread_is_the_median_between_the_extremes() -> None:
    assert ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == Spread(2.0, 1.0, 3.0)
    assert str(Spread(2.0, 1.0, 3.0)) == "2.00 (1.00 to 3.00)"
