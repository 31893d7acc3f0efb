from postingengine.v1 import transfer_pb2 as _transfer_pb2
from postingengine.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EntrySide(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENTRY_SIDE_UNSPECIFIED: _ClassVar[EntrySide]
    ENTRY_SIDE_DEBIT: _ClassVar[EntrySide]
    ENTRY_SIDE_CREDIT: _ClassVar[EntrySide]
ENTRY_SIDE_UNSPECIFIED: EntrySide
ENTRY_SIDE_DEBIT: EntrySide
ENTRY_SIDE_CREDIT: EntrySide

class Entry(_message.Message):
    __slots__ = ("transfer_id", "kind", "side", "amount", "running_balance", "counter_account", "ledger", "code", "reference", "followed", "timestamp", "effective_at", "group", "position")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    RUNNING_BALANCE_FIELD_NUMBER: _ClassVar[int]
    COUNTER_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    FOLLOWED_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_AT_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    transfer_id: bytes
    kind: _transfer_pb2.TransferKind
    side: EntrySide
    amount: _types_pb2.Uint128
    running_balance: _types_pb2.Int128
    counter_account: bytes
    ledger: int
    code: int
    reference: bytes
    followed: bytes
    timestamp: int
    effective_at: int
    group: int
    position: int
    def __init__(self, transfer_id: _Optional[bytes] = ..., kind: _Optional[_Union[_transfer_pb2.TransferKind, str]] = ..., side: _Optional[_Union[EntrySide, str]] = ..., amount: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., running_balance: _Optional[_Union[_types_pb2.Int128, _Mapping]] = ..., counter_account: _Optional[bytes] = ..., ledger: _Optional[int] = ..., code: _Optional[int] = ..., reference: _Optional[bytes] = ..., followed: _Optional[bytes] = ..., timestamp: _Optional[int] = ..., effective_at: _Optional[int] = ..., group: _Optional[int] = ..., position: _Optional[int] = ...) -> None: ...

class PostedBalance(_message.Message):
    __slots__ = ("debits_posted", "credits_posted", "balance")
    DEBITS_POSTED_FIELD_NUMBER: _ClassVar[int]
    CREDITS_POSTED_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    debits_posted: _types_pb2.Uint128
    credits_posted: _types_pb2.Uint128
    balance: _types_pb2.Int128
    def __init__(self, debits_posted: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., credits_posted: _Optional[_Union[_types_pb2.Uint128, _Mapping]] = ..., balance: _Optional[_Union[_types_pb2.Int128, _Mapping]] = ...) -> None: ...
