import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_assay.errors import ShapeError, WorldError
from latent_assay.worlds import (
    ChildSwitchesParent,
    Conditional,
    Hierarchy,
    Independent,
    Link,
    SideBySide,
    Table,
)
from latent_assay.worlds.firing.forest import Forest

from .sampling import assert_law_holds, assert_probabilities, assert_probability, seeded

CHAIN = (None, 0, 1, 2, 3, 4)
TREE = (None, 0, 0, 1, 1, 1, None, 6)


def joint(firing: torch.Tensor, *features: int) -> float:
    return firing[:, list(features)].all(dim=1).double().mean().item()


# --- each law against its statement -----------------------------------------------------------


@pytest.mark.parametrize(
    "law",
    [
        Independent(rates=(0.5, 0.25, 0.0, 1.0, 0.01)),
        Hierarchy(parents=(None, 0, None, None), rates=(0.25, 0.2, 0.05, 0.05)),
        Hierarchy(parents=CHAIN, rates=(0.9, 0.8, 0.7, 0.6, 0.5, 0.4)),
        Hierarchy(parents=TREE, rates=(0.8, 0.4, 0.3, 0.2, 0.5, 0.3, 0.5, 0.5), exclusive=True),
        Hierarchy(parents=TREE, rates=(0.8, 0.4, 0.3, 0.2, 0.5, 0.3, 0.5, 0.5), exclusive=(1,)),
        Hierarchy(parents=(2, 2, None), rates=(0.4, 0.6, 0.5), exclusive=True),
        ChildSwitchesParent(parents=TREE, rates=(0.1, 0.2, 0.3, 0.1, 0.1, 0.2, 0.0, 0.5)),
        ChildSwitchesParent(parents=CHAIN, rates=(0.1, 0.1, 0.2, 0.1, 0.1, 0.3)),
        Conditional(
            rates=(0.25, 0.3, None, None, None),
            links=(
                Link(feature=2, on=1, fires=0.2, silent=0.1),
                Link(feature=3, on=2, fires=0.9, silent=0.05),
                Link(feature=4, on=3, fires=0.1, silent=0.6),
            ),
        ),
        Conditional(
            rates=(None, None, None, None, 0.4),
            links=tuple(Link(feature=i, on=i + 1, fires=0.8, silent=0.3) for i in range(4)),
        ),
        Table.of({(): 0.5, (0,): 0.2, (1, 2): 0.2, (0, 1, 2): 0.1}, n_features=3),
        SideBySide(
            parts=(
                Hierarchy(parents=(None, 0), rates=(0.5, 0.5)),
                Table.of({(): 0.7, (1,): 0.3}, n_features=2),
                ChildSwitchesParent(parents=(None, 0), rates=(0.2, 0.2)),
            )
        ),
    ],
    ids=lambda law: type(law).__name__,
)
def test_samples_patterns_and_marginals_agree(law):
    assert_law_holds(law)


def test_independent_features_are_independent():
    n = 100_000
    fires = Independent(rates=(0.5, 0.3, 0.1)).sample(n, seeded(0))
    assert_probability(joint(fires, 0, 1), 0.15, n)
    assert_probability(joint(fires, 0, 1, 2), 0.015, n)


def test_hierarchy_has_its_conditionals():
    n = 200_000
    fires = Hierarchy(parents=(None, 0, 1), rates=(0.4, 0.3, 0.6)).sample(n, seeded(0))
    for parent, child, chance in ((0, 1, 0.3), (1, 2, 0.6)):
        on = fires[:, parent]
        assert_probability(fires[on, child].double().mean().item(), chance, int(on.sum()))
        assert not fires[~on, child].any()


def test_siblings_are_independent_unless_exclusive():
    n, rates = 100_000, (0.5, 0.4, 0.4)
    free = Hierarchy(parents=(None, 0, 0), rates=rates).sample(n, seeded(0))
    either = Hierarchy(parents=(None, 0, 0), rates=rates, exclusive=True).sample(n, seeded(0))
    assert_probability(joint(free, 1, 2), 0.5 * 0.4 * 0.4, n)
    assert not (either[:, 1] & either[:, 2]).any()
    # exclusive siblings keep their rates: nothing is lost to the other
    assert_probabilities(either.double().mean(dim=0), torch.tensor([0.5, 0.2, 0.2]), n)


def test_exclusive_siblings_may_share_everything():
    law = Hierarchy(parents=(None, 0, 0, 0), rates=(0.5, 0.3, 0.3, 0.4), exclusive=True)
    fires = law.sample(20_000, seeded(0))
    assert torch.equal(fires[:, 1:].sum(dim=1), fires[:, 0].long())  # exactly one, always


def test_exclusive_siblings_in_many_families():
    """Families of different size and depth, all at once."""
    parents = (None, None, 0, 0, 0, 1, 1, 2, 2, 2, 2, 5)
    rates = (0.9, 0.8, 0.5, 0.3, 0.2, 0.5, 0.4, 0.2, 0.2, 0.3, 0.3, 0.9)
    law = Hierarchy(parents=parents, rates=rates, exclusive=True)
    fires = law.sample(50_000, seeded(0))
    for family in ((2, 3, 4), (5, 6), (7, 8, 9, 10)):
        assert fires[:, list(family)].sum(dim=1).max() == 1
    assert_probabilities(fires.double().mean(dim=0), law.marginals, 50_000)


def test_the_two_hierarchy_rules_make_different_worlds():
    """Same numbers: gating keeps the parent's rate, switching keeps the child's."""
    n, parents, rates = 100_000, (None, 0, 0), (0.2, 0.2, 0.2)
    gated = Hierarchy(parents=parents, rates=rates)
    switched = ChildSwitchesParent(parents=parents, rates=rates)
    assert torch.allclose(gated.marginals, torch.tensor([0.2, 0.04, 0.04]).double())
    assert torch.allclose(switched.marginals, torch.tensor([0.488, 0.2, 0.2]).double())
    for law, parent, child in ((gated, 0.2, 0.04), (switched, 0.488, 0.2)):
        fires = law.sample(n, seeded(0))
        assert_probability(joint(fires, 0), parent, n)
        assert_probability(joint(fires, 1), child, n)
        assert not (fires[:, 1] & ~fires[:, 0]).any()
    alone_gated = gated.patterns().probability[gated.patterns().firing.sum(1) == 1].sum()
    alone_switched = switched.patterns().probability[switched.patterns().firing.sum(1) == 1].sum()
    assert math.isclose(alone_gated.item(), 0.2 * 0.8**2)  # the parent fires, no child does
    assert math.isclose(alone_switched.item(), 0.2 * 0.8**2)  # by its own decision only


def test_overall_rates_are_realised():
    n, targets = 200_000, (0.4, 0.2, 0.1, 0.05, 0.3)
    parents = (None, 0, 0, 1, None)
    for law in (
        Hierarchy.with_overall_rates(parents=parents, rates=targets),
        Hierarchy.with_overall_rates(parents=parents, rates=targets, exclusive=True),
        ChildSwitchesParent.with_overall_rates(parents=parents, rates=targets),
    ):
        torch.testing.assert_close(law.marginals, torch.tensor(targets).double())
        measured = law.sample(n, seeded(0)).double().mean(dim=0)
        assert_probabilities(measured, torch.tensor(targets), n)


def test_overall_rates_at_their_limits():
    same = Hierarchy.with_overall_rates(parents=(None, 0, 0), rates=(0.3, 0.3, 0.0))
    assert same.rates == (0.3, 1.0, 0.0)
    silent = Hierarchy.with_overall_rates(parents=(None, 0), rates=(0.0, 0.0))
    assert silent.marginals.tolist() == [0, 0]
    driven = ChildSwitchesParent.with_overall_rates(parents=(None, 0, 0), rates=(0.36, 0.2, 0.2))
    assert driven.rates[0] == pytest.approx(0, abs=1e-9)
    certain = ChildSwitchesParent.with_overall_rates(parents=(None, 0), rates=(1.0, 1.0))
    assert certain.marginals.tolist() == [1, 1]


def test_conditional_has_its_conditionals():
    n = 200_000
    law = Conditional(rates=(0.25, None), links=[Link(feature=1, on=0, fires=0.2, silent=0.1)])
    fires = law.sample(n, seeded(0))
    on = fires[:, 0]
    assert_probability(fires[on, 1].double().mean().item(), 0.2, int(on.sum()))
    assert_probability(fires[~on, 1].double().mean().item(), 0.1, int((~on).sum()))
    assert law.forest.links == []
    strict = Conditional(rates=(0.25, None), links=[Link(feature=1, on=0, fires=0.2, silent=0.0)])
    assert strict.forest.links == [(0, 1)]
    gated = Hierarchy(parents=(None, 0), rates=(0.25, 0.2))
    assert torch.equal(strict.patterns().firing, gated.patterns().firing)
    torch.testing.assert_close(strict.patterns().probability, gated.patterns().probability)


def test_table_merges_what_is_equal_and_drops_what_cannot_be():
    law = Table(
        firing=torch.tensor([[1, 0], [0, 1], [1, 0], [1, 1]]).bool(),
        probability=torch.tensor([0.25, 0.5, 0.25, 0.0]).double(),
    )
    assert law.patterns().firing.tolist() == [[False, True], [True, False]]
    assert law.patterns().probability.tolist() == [0.5, 0.5]
    assert not law.sample(1000, seeded(0)).all(dim=1).any()


def test_table_copies_what_it_is_given():
    probability = torch.tensor([0.5, 0.5]).double()
    law = Table(firing=torch.tensor([[True], [False]]), probability=probability)
    probability[0] = 0
    assert law.marginals.item() == 0.5


def test_table_of_one_pattern():
    assert Table.of({(0,): 1.0}, n_features=2).sample(3, seeded(0)).tolist() == [[True, False]] * 3


def test_side_by_side_numbers_on():
    pair = Hierarchy(parents=(None, 0), rates=(0.5, 0.5))
    law = SideBySide(parts=[pair, Independent(rates=(0.1,)), pair])
    assert law.forest.parents == (None, 0, None, None, 3)
    assert law.marginals.tolist() == pytest.approx([0.5, 0.25, 0.1, 0.5, 0.25])
    assert law.patterns().probability.numel() == 3 * 2 * 3


@pytest.mark.parametrize("n", [0, 1])
def test_few_samples(n):
    for law in (
        Hierarchy(parents=TREE, rates=[0.1] * 8, exclusive=True),
        ChildSwitchesParent(parents=TREE, rates=[0.1] * 8),
        Table.of({(): 1.0}, n_features=8),
    ):
        assert law.sample(n, seeded(0)).shape == (n, 8)


@pytest.mark.usefixtures("unchecked")
def test_laws_do_not_change():
    law = Hierarchy(parents=[None, 0], rates=[0.5, 0.5])
    assert law.parents == (None, 0)
    assert law == Hierarchy(parents=(None, 0), rates=torch.tensor([0.5, 0.5]))
    with pytest.raises(AttributeError, match="cannot assign"):
        law.rates = (0.1, 0.1)


def test_many_features_are_coded_in_several_words():
    """More features than bits in an integer: merging must still tell all patterns apart."""
    law = Table.of({(): 0.25, (0,): 0.25, (70,): 0.25, (0, 130): 0.25}, n_features=131)
    assert law.patterns().probability.tolist() == [0.25] * 4
    long = Hierarchy(parents=(None, *range(129)), rates=[0.9] * 130)
    assert long.patterns().probability.numel() == 131
    assert_law_holds(long, n=5000)


# --- any forest, any table --------------------------------------------------------------------

chances = st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.9, 1.0])


@st.composite
def forests(draw, largest=7):
    """Parents of a random forest, numbered in random order, and a chance for each feature."""
    n = draw(st.integers(1, largest))
    parents = [draw(st.none() | st.integers(0, i - 1)) if i else None for i in range(n)]
    names = draw(st.permutations(range(n)))
    named: list[int | None] = [None] * n
    for child, parent in enumerate(parents):
        named[names[child]] = None if parent is None else names[parent]
    return tuple(named), draw(st.lists(chances, min_size=n, max_size=n))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(forests(), st.booleans())
def test_every_gated_forest_obeys_its_law(forest, exclusive):
    parents, rates = forest
    if exclusive:  # siblings share their parent's firings
        rates = [
            rate / (1 if parent is None else parents.count(parent))
            for rate, parent in zip(rates, parents, strict=True)
        ]
    law = Hierarchy(parents=parents, rates=rates, exclusive=exclusive)
    patterns = law.patterns()
    # P(child | parent) is the rate, from the patterns alone
    for parent, child in law.forest.links:
        on = patterns.firing[:, parent]
        both = patterns.probability[on & patterns.firing[:, child]].sum()
        given_parent = patterns.probability[on].sum()
        assert (both - rates[child] * given_parent).abs() < 1e-9
        siblings = [c for c in law.forest.children[parent] if c != child]
        if exclusive and siblings:
            assert not (patterns.firing[:, [child]] & patterns.firing[:, siblings]).any()
    assert_law_holds(law, n=4000)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(forests())
def test_every_switched_forest_obeys_its_law(forest):
    parents, rates = forest
    law = ChildSwitchesParent(parents=parents, rates=rates)
    leaves = [i for i, children in enumerate(law.forest.children) if not children]
    assert law.marginals[leaves].tolist() == pytest.approx([rates[i] for i in leaves])
    assert_law_holds(law, n=4000)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(forests(), st.data())
def test_every_chain_of_links_obeys_its_law(forest, data):
    on, rates = forest
    links = [
        Link(feature=i, on=parent, fires=rates[i], silent=data.draw(chances))
        for i, parent in enumerate(on)
        if parent is not None
    ]
    roots = [rate if parent is None else None for rate, parent in zip(rates, on, strict=True)]
    law = Conditional(rates=roots, links=links)
    patterns = law.patterns()
    for link in links:
        for fires, chance in ((True, link.fires), (False, link.silent)):
            condition = patterns.firing[:, link.on] == fires
            both = patterns.probability[condition & patterns.firing[:, link.feature]].sum()
            assert (both - chance * patterns.probability[condition].sum()).abs() < 1e-9
    assert_law_holds(law, n=4000)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.integers(1, 4).flatmap(
        lambda n: st.lists(
            st.tuples(st.lists(st.booleans(), min_size=n, max_size=n), st.integers(0, 5)),
            min_size=1,
            max_size=10,
        ).filter(lambda rows: any(weight for _, weight in rows))
    )
)
def test_every_table_obeys_its_law(rows):
    weights = torch.tensor([weight for _, weight in rows]).double()
    law = Table(
        firing=torch.tensor([fires for fires, _ in rows]), probability=weights / weights.sum()
    )
    assert_law_holds(law, n=4000)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Independent(rates=()), WorldError, "`rates` is empty"),
        (lambda: Independent(rates=(0.5, 2)), WorldError, r"`rates\[1\]` is 2, .*between 0 and 1"),
        (
            lambda: Hierarchy(parents=(None,), rates=(0.5, 0.5)),
            WorldError,
            "`parents` has 1 entries for 2 features",
        ),
        (
            lambda: Hierarchy(parents=(None, 2), rates=(0.5, 0.5)),
            WorldError,
            "feature 1 has parent 2, but there are only features 0 to 1",
        ),
        (
            lambda: Hierarchy(parents=(None, 2, 1), rates=(0.5, 0.5, 0.5)),
            WorldError,
            "feature 1 descends from itself",
        ),
        (
            lambda: Hierarchy(parents=(0,), rates=(0.5,)),
            WorldError,
            "feature 0 descends from itself",
        ),
        (
            lambda: Hierarchy(parents=(None, 0, 0), rates=(0.5, 0.7, 0.6), exclusive=True),
            WorldError,
            r"exclusive children of feature 0 .* sum to 1.3 .*at most 1",
        ),
        (
            lambda: Hierarchy(parents=(None, 0), rates=(0.5, 0.5), exclusive=(1,)),
            WorldError,
            r"`exclusive` names feature 1, which has no children.*\[0\]",
        ),
        (
            lambda: Hierarchy.with_overall_rates(parents=(None, 0), rates=(0.2, 0.3)),
            WorldError,
            "feature 1 shall fire at rate 0.3, but its parent 0 fires at only 0.2",
        ),
        (
            lambda: ChildSwitchesParent.with_overall_rates(parents=(None, 0), rates=(0.2, 0.3)),
            WorldError,
            "feature 0 shall fire at rate 0.2, but its children alone switch it on at 0.3",
        ),
        (
            lambda: Conditional(rates=(0.5, None), links=()),
            WorldError,
            "feature 1 has neither a rate nor a link",
        ),
        (
            lambda: Conditional(
                rates=(0.5, 0.5), links=[Link(feature=1, on=0, fires=0.5, silent=0)]
            ),
            WorldError,
            "feature 1 has both a rate and a link",
        ),
        (
            lambda: Conditional(
                rates=(0.5, None), links=[Link(feature=1, on=0, fires=0.5, silent=0.0)] * 2
            ),
            WorldError,
            "feature 1 has two links.*Table",
        ),
        (
            lambda: Conditional(rates=(0.5,), links=[Link(feature=1, on=0, fires=0.5, silent=0.0)]),
            WorldError,
            "a link is for feature 1, but there are only features 0 to 0",
        ),
        (
            lambda: Conditional(
                rates=(None, None),
                links=[
                    Link(feature=0, on=1, fires=0.5, silent=0.0),
                    Link(feature=1, on=0, fires=0.5, silent=0.0),
                ],
            ),
            WorldError,
            "feature 0 descends from itself",
        ),
        (
            lambda: Link(feature=0, on=1, fires=1.5, silent=0),
            WorldError,
            "is 1.5, but a probability",
        ),
        (
            lambda: Table.of({(): 0.5, (0,): 0.4}, n_features=1),
            WorldError,
            "sum to 0.9 .*Divide them by their sum",
        ),
        (
            lambda: Table.of({(): 1.5, (0,): -0.5}, n_features=1),
            WorldError,
            "the least is -0.5",
        ),
        (
            lambda: Table.of({(3,): 1.0}, n_features=2),
            WorldError,
            "names feature 3, but there are only features 0 to 1",
        ),
        (
            lambda: Table(firing=torch.ones(2, 2).bool(), probability=torch.ones(3).double() / 3),
            ShapeError,
            r"\(2, 2\) and the probabilities \(3,\)",
        ),
        (lambda: SideBySide(parts=()), WorldError, "`parts` is empty"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_too_many_patterns():
    law = Independent(rates=[0.5] * 6)
    assert law.patterns(limit=64).probability.numel() == 64
    with pytest.raises(WorldError, match=r"at least 64 firing patterns, .* limit of 63"):
        law.patterns(limit=63)
    for crowded in (
        SideBySide(parts=[law, law]),
        Table.of({(i,): 1 / 101 for i in range(101)}, n_features=101),
        Independent(rates=[0.5] * 1000),
    ):
        with pytest.raises(WorldError, match="limit of 100"):
            crowded.patterns(limit=100)


def test_forest_knows_its_generations():
    forest = Forest((2, 2, None, 0, None))
    assert forest.order == (2, 4, 0, 1, 3)
    assert forest.depths == (1, 1, 0, 2, 0)
    assert forest.links == [(2, 0), (2, 1), (0, 3)]
