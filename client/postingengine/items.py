"""What is asked item by item: packed transfers, accounts to create, accounts to update."""

from collections.abc import Sequence

from postingengine import wire
from postingengine.bulk import Answers
from postingengine.messages import account_answers, post_answers
from postingengine.results import PackedIds
from postingengine.transfers import BATCH_TRANSFERS_MAX, RECORD_BYTES, chain_of
from postingengine.v1 import account_pb2, posting_service_pb2


class PackedTransfers:
    """A batch of n x 128 bytes; raises ValueError if it is empty, too long, or not whole records."""

    path = wire.POST_TRANSFERS

    def __init__(self, packed: bytes | bytearray) -> None:
        count, rest = divmod(len(packed), RECORD_BYTES)
        if rest:
            raise ValueError(f"a packed batch of {len(packed)} bytes is not a multiple of {RECORD_BYTES}")
        _require_count(count, "transfers")
        self._packed = packed
        self.ids: Sequence[bytes] = PackedIds(packed, RECORD_BYTES)

    def request(self, items: Sequence[int], attempt: int) -> bytes:
        """Return the serialised request of these items."""
        packed = self._packed
        if len(items) != len(self.ids):
            packed = b"".join(packed[item * RECORD_BYTES : (item + 1) * RECORD_BYTES] for item in items)
        return wire.packed_request(packed, attempt)

    def read(self, answer: bytes) -> Answers:
        """Read the serialised answer."""
        return post_answers(posting_service_pb2.PostTransfersResponse.FromString(answer))

    def chain_of(self, item: int) -> range:
        """Return the legs of the item's chain."""
        return chain_of(self._packed, item)


class NewAccounts:
    """Accounts to create."""

    path = wire.CREATE_ACCOUNTS

    def __init__(self, accounts: Sequence[account_pb2.Account]) -> None:
        _require_count(len(accounts), "accounts")
        self._accounts = accounts
        self.ids: Sequence[bytes] = [account.id for account in accounts]

    def request(self, items: Sequence[int], attempt: int) -> bytes:
        """Return the serialised request of these items."""
        accounts = [self._accounts[item] for item in items]
        return posting_service_pb2.CreateAccountsRequest(accounts=accounts, attempt=attempt).SerializeToString()

    def read(self, answer: bytes) -> Answers:
        """Read the serialised answer."""
        response = posting_service_pb2.CreateAccountsResponse.FromString(answer)
        return account_answers(response.results, response.log_indexes)

    def chain_of(self, item: int) -> range:
        """Each item stands alone."""
        return range(item, item + 1)


class Updates:
    """Updates of accounts."""

    path = wire.UPDATE_ACCOUNTS

    def __init__(self, updates: Sequence[account_pb2.AccountUpdate]) -> None:
        _require_count(len(updates), "updates")
        self._updates = updates
        self.ids: Sequence[bytes] = [update.id for update in updates]

    def request(self, items: Sequence[int], attempt: int) -> bytes:
        """Return the serialised request of these items."""
        updates = [self._updates[item] for item in items]
        return posting_service_pb2.UpdateAccountsRequest(updates=updates, attempt=attempt).SerializeToString()

    def read(self, answer: bytes) -> Answers:
        """Read the serialised answer."""
        response = posting_service_pb2.UpdateAccountsResponse.FromString(answer)
        return account_answers(response.results, response.log_indexes)

    def chain_of(self, item: int) -> range:
        """Each item stands alone."""
        return range(item, item + 1)


def _require_count(items: int, noun: str) -> None:
    if not 1 <= items <= BATCH_TRANSFERS_MAX:
        raise ValueError(f"a batch has 1 to {BATCH_TRANSFERS_MAX} {noun}, not {items}")
