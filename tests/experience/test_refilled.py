"""Groups whose rewards are alike are replaced, in as many rounds on every rank."""

from types import SimpleNamespace

from luffy_pl.experience.collect import refilled


def group(name, *rewards):
    return SimpleNamespace(name=name, rewards=rewards)


def rounds_of(groups, spare, outcomes, *, tries):
    asked = []

    def sample(prompts, places):
        assert len(places) == len(prompts)
        asked.append(list(prompts))
        return [group(prompt, *outcomes[prompt]) for prompt in prompts]

    found = refilled(groups, spare, tries=tries, sample=sample)
    return [one.name for one in found], asked


TEACHES, TEACHES_NOTHING = (0.0, 1.0), (1.0, 1.0)


def test_until_all_teach_and_then_nothing():
    groups = [group("x", *TEACHES_NOTHING), group("y", *TEACHES)]
    outcomes = {"a": TEACHES_NOTHING, "b": TEACHES, "c": TEACHES}
    names, asked = rounds_of(groups, ["a", "b", "c"], outcomes, tries=4)
    assert names == ["y", "b"]
    assert asked == [["a"], ["b"], [], []]


def test_as_far_as_spare_prompts_reach():
    groups = [group("x", *TEACHES_NOTHING), group("y", *TEACHES_NOTHING)]
    names, asked = rounds_of(groups, ["a"], {"a": TEACHES}, tries=2)
    assert names == ["a", "x"]
    assert asked == [["a"], []]
