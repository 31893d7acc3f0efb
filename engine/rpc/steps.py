"""Steps of cross-group chains on the wire: sending a packed batch of them to one group's leader (DESIGN §7).

A step is heard at most once, however often it comes: sending again is always safe, and the client of the group does so
until the deadline.
"""

from typing import Final, NamedTuple

from engine.peer.v1.peer_service_pb2 import StepRequest, StepResponse
from engine.rpc.group_client import GroupClient
from engine.rpc.link_frames import STEP, Metadata

ON_RECORD: Final = 0
"""The placement epoch of chains that some group has on record: they go on under whatever placement."""

EPOCH_KEY: Final = "postingengine-placement-epoch"
"""Metadata in which a router says by which placement it sent a post to a group, as decimal digits; a group whose own is
newer answers ABORTED, PLACEMENT_STALE."""


SPLIT_EPOCH_KEY: Final = "split-epoch"
"""Metadata that marks a post with rows that the directory of split accounts placed: its newest epoch, decimal digits.
The group answers items whose bucket it lacks with FAILED_PRECONDITION, BUCKET_MISSING, before anything is logged."""


class Sender(NamedTuple):
    """Who sends steps, and under which placement it laid the chains out."""

    cluster_id: str
    placement_epoch: int
    """`ON_RECORD` for a courier, and for what a router only drives on."""


class Stepped(NamedTuple):
    """What a group answered."""

    answers: bytes
    """One for each step, in order (`engine.core.chains.step_answers`)."""
    log_index: int
    """At which the last of the steps is applied; 0 if nothing was logged."""


async def send_steps(
    client: GroupClient,
    sender: Sender,
    rows: bytes | memoryview,
    steps: bytes,
    deadline_s: float,
    *,
    attempt: int = 1,
    metadata: Metadata = (),
) -> Stepped:
    """Send a batch of steps (`engine.core.chains.step_record`) to a group's leader and return its words.

    rows: n x 128 bytes. deadline_s: on the monotonic clock. attempt: from 2 on the group first looks what it has on
    record. Raises `CallFailed`: PLACEMENT_STALE where the chains were laid out by an old placement, CLUSTER_DIFFERS,
    OVERLOADED and the like with nothing logged, or that the fate is unknown; then send the same again.
    """
    request = StepRequest(
        cluster_id=sender.cluster_id,
        group=client.group,
        placement_epoch=sender.placement_epoch,
        rows=bytes(rows),
        steps=steps,
        attempt=attempt,
    )
    answer = StepResponse.FromString(await client.call(STEP, request.SerializeToString(), deadline_s, metadata))
    return Stepped(answer.answers, answer.log_index)
