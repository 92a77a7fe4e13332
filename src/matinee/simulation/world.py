"""The world: minute by minute, viewers come, ask, look, choose, watch, abandon and rate."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from matinee.core.clock import SECOND
from matinee.simulation.behaviour import Indices, People, Remembered, choose, minutes_watched, rates, ratings
from matinee.simulation.catalogue import later_movies, make_catalogue
from matinee.simulation.dirt import soil
from matinee.simulation.disturbances import Disturbance
from matinee.simulation.lines import MinuteLog, minute_us
from matinee.simulation.options import MINUTES_A_DAY, WorldOptions, draws
from matinee.simulation.oracle import Oracle, Sessions, Values, list_value
from matinee.simulation.past import live_past, past_lines
from matinee.simulation.recommenders import Answers, Recommender, Situation
from matinee.simulation.report import DayReport, Tally
from matinee.simulation.viewers import later_viewers, make_viewers

Write = Callable[[list[bytes]], None]
"""Takes the lines of a minute."""
HOURS = np.array(
    [50, 30, 20, 12, 10, 12, 20, 35, 45, 50, 55, 65, 80, 85, 80, 80, 90, 110, 150, 200, 235, 230, 170, 96],
    dtype=np.float64,
)  # fmt: skip
"""How much is watched in each hour of the day, against each other."""
WEEKEND = 1.3
"""How much more on a Saturday or Sunday."""
_HOUR = 60


@dataclass(slots=True)
class _Watching:
    """Who is watching, by row; all of the same length."""

    who: Indices
    item: Indices
    at: NDArray[np.int16]
    stop: NDArray[np.int16]
    second: NDArray[np.int8]
    recommended: NDArray[np.bool_]
    caused: NDArray[np.bool_]

    @classmethod
    def nobody(cls) -> "_Watching":
        index, count, flag = np.zeros(0, np.int32), np.zeros(0, np.int16), np.zeros(0, np.bool_)
        return cls(index, index, count, count, np.zeros(0, np.int8), flag, flag)

    def take(self, rows: NDArray[np.bool_]) -> "_Watching":
        return _Watching(*(getattr(self, name)[rows] for name in self.__slots__))

    def plus(self, other: "_Watching") -> "_Watching":
        return _Watching(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in self.__slots__))


class World:
    """A streaming service with its viewers.

    Args:
        options: what it is made of.
        recommender: whom it asks.
        write: takes the lines of each minute.
        disturbances: what happens to it besides.
    """

    def __init__(
        self,
        options: WorldOptions,
        recommender: Recommender,
        write: Write,
        disturbances: Sequence[Disturbance] = (),
    ) -> None:
        self.options = options
        self.recommender = recommender
        self.minute = 0
        viewers, catalogue = make_viewers(options), make_catalogue(options)
        self._remembered = Remembered(len(viewers), options.memory)
        self.people = People(viewers, catalogue, self._remembered)
        self.starts = np.zeros(len(catalogue), dtype=np.int64)
        """How often each movie was started, since the world began."""
        self.pleasure = np.zeros(len(viewers))
        """Of each viewer, the sum over sessions of the expected pleasure."""
        self.sessions = np.zeros(len(viewers), dtype=np.int32)
        """Of each viewer, the sessions."""
        self._write = write
        self._disturbances = disturbances
        self._oracle = Oracle(self.people)
        self._ids = tuple(item.encode() for item in catalogue.ids)
        self._busy = np.zeros(len(viewers), dtype=np.bool_)
        self._watching = _Watching.nobody()
        self._tally = self._new_tally()
        self._look_around()

    def state(self) -> dict[str, NDArray[np.generic]]:
        """All that has happened to it so far and will matter, by name: views, and no copies.

        The rest follows from the options. What is left out is the day's figures up to now.
        """
        watching = {f"watching_{name}": getattr(self._watching, name) for name in _Watching.__slots__}
        return {
            "minute": np.array(self.minute),
            "taste": self.people.viewers.taste,
            "seen": self._remembered.items,
            "seen_count": self._remembered.count,
            "starts": self.starts,
            "pleasure": self.pleasure,
            "sessions": self.sessions,
            "busy": self._busy,
        } | watching

    def take_up(self, state: Mapping[str, NDArray[np.generic]]) -> None:
        """Go on from a state of a world with the same options that is no younger; the arrays are copied."""
        minutes = (self.minute, int(state["minute"]))
        past, present = (minute // self.options.period_minutes for minute in minutes)
        for period in range(past + 1, present + 1):
            self._grow(period)
        self.minute = int(state["minute"])
        for name, array in self.state().items():
            if name != "minute" and not name.startswith("watching_"):
                array[: len(state[name])] = state[name]  # one of format 1 lacks those of later periods
        columns = (state[f"watching_{name}"] for name in _Watching.__slots__)
        self._watching = _Watching(*(np.array(column) for column in columns))
        self._tally = self._new_tally()
        self._look_around()

    def _grow(self, period: int) -> None:
        """A later period begins: who will join within it, and what will come out, is there from now on."""
        viewers, catalogue = self.people.viewers, self.people.catalogue
        viewers.add(later_viewers(self.options, period))
        catalogue.add(later_movies(self.options, period, catalogue.directions))
        self._ids = tuple(item.encode() for item in catalogue.ids)
        self._remembered.grow(len(viewers))
        self.starts = np.pad(self.starts, (0, len(catalogue) - self.starts.size))
        more = (0, len(viewers) - self._busy.size)
        self.pleasure, self.sessions = np.pad(self.pleasure, more), np.pad(self.sessions, more)
        self._busy = np.pad(self._busy, more)

    def live_through_past(self) -> int:
        """Write what was rated before the world begins, if anything was. Returns the lines."""
        if not self.options.past_ratings:
            return 0
        past = live_past(self.people, self.options)
        self.starts += np.bincount(past[1], minlength=self.starts.size)
        written = 0
        for lines in past_lines(past, self.options, self._ids):
            self._write(lines)
            written += len(lines)
        return written

    def run_day(self, each_minute: Callable[[int], None] = lambda _minute: None) -> DayReport:
        """Live on until midnight of the world; `each_minute` is told how many minutes have passed in all."""
        while True:
            report = self.step()
            each_minute(self.minute)
            if report is not None:
                return report

    def step(self) -> DayReport | None:
        """Live through one minute; the report of a day that has ended with it."""
        if self.minute % _HOUR == 0:
            self._look_around()
        log = MinuteLog(minute_us(self.options.start_us, self.minute), self._ids)
        self._open_sessions(log)
        self._watch(log)
        for number, disturbance in enumerate(self._disturbances):
            disturbance.add_lines(self.minute, log, self.people, self._draws("disturbance", number))
        self._put_out(log)
        self.minute += 1
        return self._end_day() if self.minute % MINUTES_A_DAY == 0 else None

    def _draws(self, purpose: str, *numbers: int) -> np.random.Generator:
        return draws(self.options.seed, purpose, self.minute, *numbers)

    def _new_tally(self) -> Tally:
        return Tally(len(self.people.catalogue), self.options.list_length)

    def _look_around(self) -> None:
        """Once an hour: who is here by now, what is out, and what is talked about."""
        present = np.where(self.people.viewers.joined_minute <= self.minute, self.people.viewers.activity, 0.0)
        fame = np.where(self.people.catalogue.out_minute <= self.minute, self.people.catalogue.fame, 0.0)
        for disturbance in self._disturbances:
            fame = disturbance.fame(self.minute, fame)
        self._present = np.cumsum(present)
        self._fame = np.cumsum(fame / fame.sum())
        moment = datetime.fromtimestamp(minute_us(self.options.start_us, self.minute) // SECOND, UTC)
        rate = HOURS[moment.hour] / HOURS.mean() * (WEEKEND if moment.weekday() >= 5 else 1.0)
        self._arrivals_a_minute = self._present[-1] * self.options.sessions_a_day * rate / MINUTES_A_DAY

    def _open_sessions(self, log: MinuteLog) -> None:
        random = self._draws("arrivals")
        count = random.poisson(self._arrivals_a_minute)
        if count == 0:
            return
        drawn = np.searchsorted(self._present, random.random(count) * self._present[-1], side="right")
        who = np.unique(np.minimum(drawn, self._busy.size - 1)).astype(np.int32)
        own = self.people.own_pick(self._draws("alternatives"), who, self.minute, self._fame)
        free = ~self._busy[who]
        sessions = Sessions(who[free], own[free], self.minute)
        if sessions.who.size == 0:
            return
        answers = self._ask(sessions)
        seconds = self._draws("seconds").integers(0, 60, sessions.who.size, dtype=np.int8)
        log.receive(sessions.who, answers, seconds)
        self._choose(sessions, self._measure(sessions, answers), seconds)

    def _ask(self, sessions: Sessions) -> Answers:
        recommender = self.recommender
        for disturbance in self._disturbances:
            recommender = disturbance.before(self.minute, recommender)
        situation = Situation(
            people=self.people,
            minute=self.minute,
            starts=self.starts,
            alternatives=sessions.alternatives,
            random=self._draws("recommender"),
            length=self.options.list_length,
        )
        return recommender.recommend(sessions.who, situation)

    def _measure(self, sessions: Sessions, answers: Answers) -> tuple[Indices, NDArray[np.float32]]:
        """The lists, (s, places), and how attractive each place is; what they are worth is noted."""
        length, index = self.options.list_length, self.people.catalogue.index
        items = np.full((sessions.who.size, length), -1, dtype=np.int32)
        for row, answer in enumerate(answers.each):
            found = [index.get(item, -1) for item in dict.fromkeys(answer.items[:length])]
            items[row, : len(found)] = found
        attraction, gain = self._oracle.of_lists(sessions, items)
        value, alone = list_value(attraction, gain), self._oracle.alternative(sessions)
        self._tally.add_sessions(list(answers.each), value, alone)
        self.pleasure[sessions.who] += value + alone
        self.sessions[sessions.who] += 1
        self._sample(sessions, value, alone)
        return items, attraction

    def _sample(self, sessions: Sessions, value: Values, alone: Values) -> None:
        expected = self._present[-1] * self.options.sessions_a_day
        share = min(1.0, self.options.oracle_sessions / max(expected, 1.0))
        rows = self._draws("sample").random(sessions.who.size) < share
        if rows.any():
            sampled = Sessions(sessions.who[rows], sessions.alternatives[rows], self.minute)
            everything = self._oracle.of_everything(sampled)
            self._tally.add_sample(sampled.who, value[rows], alone[rows], *everything)

    def _choose(
        self, sessions: Sessions, lists: tuple[Indices, NDArray[np.float32]], seconds: NDArray[np.int8]
    ) -> None:
        items, attraction = lists
        place = choose(self._draws("choices"), attraction)
        from_list = place >= 0
        item = np.where(from_list, items[np.arange(place.size), place], sessions.alternatives)
        starts = item >= 0
        who, item, from_list = sessions.who[starts], item[starts].astype(np.int32), from_list[starts]
        liking = self.people.liking(who, item)
        self.people.seen.add(who, item)
        np.add.at(self.starts, item, 1)
        np.add.at(self._tally.starts, item, 1)
        self._busy[who] = True
        self._watching = self._watching.plus(
            _Watching(
                who=who,
                item=item,
                at=np.zeros(who.size, dtype=np.int16),
                stop=minutes_watched(self._draws("abandoning"), liking, self.people.catalogue.minutes[item]),
                second=seconds[starts],
                recommended=from_list,
                caused=from_list & (item != sessions.alternatives[starts]),
            )
        )

    def _watch(self, log: MinuteLog) -> None:
        """Everybody who is watching asks for the next minute; who has seen enough ends, and may rate."""
        now = self._watching
        if now.who.size == 0:
            return
        log.watch(now.who, now.item, now.at, now.second)
        self._tally.minutes += now.who.size
        self._tally.recommended += int(np.count_nonzero(now.recommended))
        self._tally.caused += int(np.count_nonzero(now.caused))
        now.at += 1
        ends = now.at >= now.stop
        if not ends.any():
            return
        over = now.take(ends)
        self._busy[over.who] = False
        self._watching = now.take(~ends)
        random = self._draws("ratings")
        liking = self.people.liking(over.who, over.item)
        rating = rates(random, liking)
        stars = ratings(random, liking)
        log.rate(over.who[rating], over.item[rating], stars[rating], over.second[rating])
        self._tally.ratings += int(np.count_nonzero(rating))

    def _put_out(self, log: MinuteLog) -> None:
        if len(log) == 0:
            return
        random = self._draws("lines")
        lines, dirt = soil(log.written(random), self.options.dirt, random)
        self._write(lines)
        self._tally.lines += len(lines)
        for kind, count in dirt.items():
            self._tally.dirt[kind] += count

    def _end_day(self) -> DayReport:
        day = self.minute // MINUTES_A_DAY - 1
        n_out = int(np.count_nonzero(self.people.catalogue.out_minute <= self.minute))
        report = self._tally.report(day, n_out)
        self.people.viewers.drift(self._draws("drift"), self.options.drift_a_day)
        period, within = divmod(self.minute, self.options.period_minutes)
        if within == 0:
            self._grow(period)
        self._tally = self._new_tally()
        return report
