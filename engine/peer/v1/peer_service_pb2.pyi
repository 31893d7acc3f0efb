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

class MakeBucketsRequest(_message.Message):
    __slots__ = ("cluster_id", "group", "rows", "attempt")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    group: int
    rows: bytes
    attempt: int
    def __init__(self, cluster_id: _Optional[str] = ..., group: _Optional[int] = ..., rows: _Optional[bytes] = ..., attempt: _Optional[int] = ...) -> None: ...

class MakeBucketsResponse(_message.Message):
    __slots__ = ("results", "log_index")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    results: bytes
    log_index: int
    def __init__(self, results: _Optional[bytes] = ..., log_index: _Optional[int] = ...) -> None: ...

class ReadBucketsRequest(_message.Message):
    __slots__ = ("cluster_id", "group", "ids", "from_epoch", "page_size")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    FROM_EPOCH_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    cluster_id: str
    group: int
    ids: bytes
    from_epoch: int
    page_size: int
    def __init__(self, cluster_id: _Optional[str] = ..., group: _Optional[int] = ..., ids: _Optional[bytes] = ..., from_epoch: _Optional[int] = ..., page_size: _Optional[int] = ...) -> None: ...

class ReadBucketsResponse(_message.Message):
    __slots__ = ("buckets", "log_index", "as_of", "next_epoch")
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    NEXT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    buckets: bytes
    log_index: int
    as_of: int
    next_epoch: int
    def __init__(self, buckets: _Optional[bytes] = ..., log_index: _Optional[int] = ..., as_of: _Optional[int] = ..., next_epoch: _Optional[int] = ...) -> None: ...
