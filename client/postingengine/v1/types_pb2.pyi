from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Basis(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BASIS_UNSPECIFIED: _ClassVar[Basis]
    BASIS_BOOKED: _ClassVar[Basis]
    BASIS_VALUE: _ClassVar[Basis]
BASIS_UNSPECIFIED: Basis
BASIS_BOOKED: Basis
BASIS_VALUE: Basis

class Uint128(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: int
    high: int
    def __init__(self, low: _Optional[int] = ..., high: _Optional[int] = ...) -> None: ...

class Int128(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: int
    high: int
    def __init__(self, low: _Optional[int] = ..., high: _Optional[int] = ...) -> None: ...

class Ledger(_message.Message):
    __slots__ = ("ledger", "code", "scale")
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ledger: int
    code: str
    scale: int
    def __init__(self, ledger: _Optional[int] = ..., code: _Optional[str] = ..., scale: _Optional[int] = ...) -> None: ...

class GroupLogIndex(_message.Message):
    __slots__ = ("group", "log_index")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    group: int
    log_index: int
    def __init__(self, group: _Optional[int] = ..., log_index: _Optional[int] = ...) -> None: ...

class ReadPoint(_message.Message):
    __slots__ = ("group", "log_index", "as_of", "stale_ms")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    LOG_INDEX_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    STALE_MS_FIELD_NUMBER: _ClassVar[int]
    group: int
    log_index: int
    as_of: int
    stale_ms: int
    def __init__(self, group: _Optional[int] = ..., log_index: _Optional[int] = ..., as_of: _Optional[int] = ..., stale_ms: _Optional[int] = ...) -> None: ...

class Consistency(_message.Message):
    __slots__ = ("linearizable", "at_least", "stale")
    class Linearizable(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    class AtLeast(_message.Message):
        __slots__ = ("log_indexes",)
        LOG_INDEXES_FIELD_NUMBER: _ClassVar[int]
        log_indexes: _containers.RepeatedCompositeFieldContainer[GroupLogIndex]
        def __init__(self, log_indexes: _Optional[_Iterable[_Union[GroupLogIndex, _Mapping]]] = ...) -> None: ...
    class Stale(_message.Message):
        __slots__ = ()
        def __init__(self) -> None: ...
    LINEARIZABLE_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    linearizable: Consistency.Linearizable
    at_least: Consistency.AtLeast
    stale: Consistency.Stale
    def __init__(self, linearizable: _Optional[_Union[Consistency.Linearizable, _Mapping]] = ..., at_least: _Optional[_Union[Consistency.AtLeast, _Mapping]] = ..., stale: _Optional[_Union[Consistency.Stale, _Mapping]] = ...) -> None: ...
