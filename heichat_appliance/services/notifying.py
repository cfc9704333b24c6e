"""Whom an event notifies by the default push rules: judged once, when it is made (see db/schema/25_unread.sql).

Unread counts of people who never changed their push rules, i.e. nearly all, are then but counted.
"""

from __future__ import annotations

from heichat_appliance.db.engine import Transaction
from heichat_appliance.protocol import pushrules
from heichat_appliance.protocol.pdu import Pdu
from heichat_appliance.protocol.powerlevels import PowerLevels
from heichat_appliance.protocol.pusheval import Evaluator, PushEvent
from heichat_appliance.store import receipts, unread

DEFAULT_RULES = Evaluator(pushrules.merge({}))
#: People of one event whose mention is noted.
MAX_MENTIONED = 200


def note(tx: Transaction, event: Pdu, pos: int, levels: PowerLevels) -> None:
    """Store what the default rules say about an event that was just stored at `pos`."""
    if event.state_key is not None and event.type != "m.room.tombstone":
        return
    outcome = DEFAULT_RULES.outcome(
        PushEvent(
            type=event.type,
            sender=event.sender,
            room_id=event.room_id,
            content=event.content,
            state_key=event.state_key,
            event_id=event.event_id,
            # By the default rules a room of two differs in the sound alone, so it need not be told apart here.
            member_count=lambda: 3,
            power_levels=lambda: levels,
        )
    )
    everybody = outcome.otherwise
    mentioned = [unread.EVERYBODY] if everybody.highlight else []
    if not outcome.is_same_for_all:
        mentioned += [user for user in _mentions(event) if outcome.for_user(user, None).highlight]
    if everybody.notify or mentioned:
        thread = receipts.thread_of(tx.execute, pos)[0] if "m.relates_to" in event.content else receipts.MAIN
        unread.insert(tx, event.room_id, pos, thread, event.sender, everybody.notify, mentioned)


def _mentions(event: Pdu) -> list[str]:
    mentions = event.content.get("m.mentions")
    people = mentions.get("user_ids") if isinstance(mentions, dict) else None
    return [one for one in people[:MAX_MENTIONED] if isinstance(one, str)] if isinstance(people, list) else []
