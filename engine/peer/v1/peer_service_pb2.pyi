from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class StepRequest(_message.Message):
    __slots__ = ("cluster_id", "group", "placement_epoch", "rows", "steps", "attempt")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    group: int
    placement_epoch: int
    rows: bytes
    steps: bytes
    attempt: int
    def __init__(self, cluster_id: _Optional[str] = ..., group: _Optional[int] = ..., placement_epoch: _Optional[int] = ..., rows: _Optional[bytes] = ..., steps: _Optional[bytes] = ..., attempt: _Optional[int] = ...) -> None: ...

class StepResponse(_message.Message):
    __slots__ = ("answers", "log_index")
    ANSWERS_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    answers: bytes
    log_index: int
    def __init__(self, answers: _Optional[bytes] = ..., log_index: _Optional[int] = ...) -> None: ...
