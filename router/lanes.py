"""The lanes to the groups of a cluster: steps of cross-group chains over gRPC (`engine.rpc.steps`)."""

from typing import Final

from engine.core.chains.step_answers import AnswersDamaged, decode_answers
from engine.core.chains.step_record import StepRecord, encode_steps
from engine.core.chains.word import Step
from engine.failpoints import Failpoint, is_armed, reach
from engine.rpc.faults import CallFailed, fate_unknown
from engine.rpc.group_client import GroupClient
from engine.rpc.steps import Sender, send_steps
from router.chains.sending import Lane, Replies, Send, SentAs
from router.directory import Directory


class Lanes:
    """One lane to each group that the router's file names, made when it is first needed."""

    def __init__(self, directory: Directory) -> None:
        """Reach the groups through the clients of `directory`."""
        self._directory = directory
        self._lanes: dict[int, Lane] = {}

    def lane(self, group: int) -> Lane:
        """Return the lane to a group; raises `CallFailed` (GROUP_UNKNOWN) for one that the file does not name."""
        if group not in self._lanes:
            client = self._directory.client(group)
            self._lanes[group] = Lane(group, _sender(client, self._directory.config.cluster_id))
        return self._lanes[group]


def _sender(client: GroupClient, cluster_id: str) -> Send:
    async def send(record: StepRecord, sent_as: SentAs, deadline_s: float) -> Replies:
        sender = Sender(cluster_id, sent_as.placement_epoch)
        rows, steps = record.rows.tobytes(), encode_steps(record)
        _reach(_BEFORE, record)
        stepped = await send_steps(
            client, sender, rows, steps, deadline_s, attempt=sent_as.attempt, metadata=sent_as.caller
        )
        _reach(_AFTER, record)
        try:
            answers = decode_answers(stepped.answers)
        except AnswersDamaged as damaged:
            raise CallFailed(fate_unknown(f"group {client.group} answered what cannot be read: {damaged}")) from damaged
        if len(answers.answers) != len(record.steps):
            words = f"group {client.group} gave {len(answers.answers)} answers to {len(record.steps)} steps"
            raise CallFailed(fate_unknown(words))
        return Replies(answers, stepped.log_index)

    return send


def _reach(points: tuple[tuple[Step, Failpoint], ...], record: StepRecord) -> None:
    if not is_armed():
        return
    steps = set(record.steps["step"].tolist())
    for step, point in points:
        if step in steps:
            reach(point)


_BEFORE: Final = (
    (Step.RESERVE, Failpoint.ROUTER_BEFORE_RESERVE_SENT),
    (Step.DECIDE, Failpoint.ROUTER_BEFORE_DECIDE_SENT),
    (Step.COMMIT, Failpoint.ROUTER_BEFORE_COMMIT_SENT),
)
_AFTER: Final = (
    (Step.DECIDE, Failpoint.ROUTER_AFTER_DECIDE_SENT),
    (Step.COMMIT, Failpoint.ROUTER_AFTER_COMMIT_SENT),
)
