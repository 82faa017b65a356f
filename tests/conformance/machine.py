"""What every machine of the protocol must do.

A test module makes a subclass whose name starts with `Test` and gives it the machine: its table, the unions of its
states and events, and an example of each; several, where what happens depends on data or time. Every example state is
then tried with every example event.
"""

import copy
from collections.abc import Sequence
from itertools import product
from typing import Any, ClassVar, get_args

import msgspec
import pytest

from protocol.errors import IllegalTransition
from protocol.machine import Effect, Event, State, Transitions


def members(union: Any) -> set[type]:
    return set(get_args(union) or (union,))


def _named(examples: Sequence[Any], kind: str) -> list[Any]:
    return [pytest.param(one, id=f"{type(one).__name__}{index}-{kind}") for index, one in enumerate(examples)]


class MachineConformance:
    table: ClassVar[Transitions]
    state_union: ClassVar[Any]
    event_union: ClassVar[Any]
    states: ClassVar[Sequence[State]]
    events: ClassVar[Sequence[Event]]

    def step(self, state: Any, event: Any) -> tuple[State, tuple[Effect, ...]]:
        raise NotImplementedError

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        for name, examples in (("state", self.states), ("event", self.events)):
            if name in metafunc.fixturenames:
                metafunc.parametrize(name, _named(examples, name))

    def test_what_the_table_has_happens_and_nothing_else(self, state: State, event: Event) -> None:
        targets = self.table.get((type(state), type(event)))
        if targets is None:
            with pytest.raises(IllegalTransition) as caught:
                self.step(state, event)
            assert type(event).__name__ in str(caught.value)
            assert type(state).__name__ in str(caught.value)
        else:
            kept, shown = copy.deepcopy(state), repr(event)
            new, effects = self.step(state, event)
            assert type(new) in targets
            assert isinstance(effects, tuple)
            assert all(isinstance(effect, Effect) for effect in effects)
            assert (new, effects) == self.step(state, event), "a step depends on its arguments alone"
            assert state == kept, "a step changes no state"
            assert repr(event) == shown, "a step changes no event"

    def test_every_state_and_every_event_has_an_example(self) -> None:
        assert {type(state) for state in self.states} == members(self.state_union)
        assert {type(event) for event in self.events} == members(self.event_union)

    def test_every_arrow_of_the_table_happens_in_some_example(self) -> None:
        reached: dict[tuple[type, type], set[type]] = {arrow: set() for arrow in self.table}
        for state, event in product(self.states, self.events):
            if (type(state), type(event)) in self.table:
                reached[type(state), type(event)].add(type(self.step(state, event)[0]))
        assert reached == {arrow: set(targets) for arrow, targets in self.table.items()}

    def test_every_state_is_reached_from_the_first_one(self) -> None:
        found, fresh = set[type](), {type(self.states[0])}
        while fresh:
            found |= fresh
            fresh = {
                target for (state, _), targets in self.table.items() if state in fresh for target in targets
            } - found
        assert found == members(self.state_union)


class StoredMachineConformance(MachineConformance):
    """For machines whose states outlive their process.

    `repeated` are the effects with which a final state may answer an event that comes again; all others must be quiet.
    """

    repeated: ClassVar[tuple[type[Effect], ...]] = ()

    def test_a_state_survives_storage(self, state: State) -> None:
        stored = msgspec.msgpack.encode(state)
        loaded = msgspec.msgpack.decode(stored, type=self.state_union)
        assert type(loaded) is type(state)
        assert loaded == state
        assert msgspec.msgpack.encode(loaded) == stored

    def test_what_led_to_a_final_state_changes_nothing_when_it_comes_again(self) -> None:
        endings = 0
        for state, event in self._possible(self.states):
            new, _ = self.step(state, event)
            if self._is_final(type(new)):
                again, effects = self.step(new, event)
                assert again == new
                assert all(isinstance(effect, self.repeated) for effect in effects)
                endings += 1
        assert endings

    def test_nothing_leads_out_of_a_final_state(self) -> None:
        final = [state for state in self.states if self._is_final(type(state))]
        assert final
        for state, event in self._possible(final):
            new, effects = self.step(state, event)
            assert new == state
            assert all(isinstance(effect, self.repeated) for effect in effects)

    def _possible(self, states: Sequence[State]) -> list[tuple[State, Event]]:
        return [pair for pair in product(states, self.events) if (type(pair[0]), type(pair[1])) in self.table]

    def _is_final(self, state: type[State]) -> bool:
        return all(targets == {state} for (source, _), targets in self.table.items() if source is state) and any(
            source is state for source, _ in self.table
        )
