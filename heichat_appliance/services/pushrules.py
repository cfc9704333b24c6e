"""A person's push rules: the defaults and the person's changes to them (client-server API "Push Rules")."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from twisted.internet.defer import Deferred

from heichat_appliance.db.engine import Engine, Transaction
from heichat_appliance.errors import MatrixError, invalid_param, not_found
from heichat_appliance.protocol import pushrules
from heichat_appliance.store import account_data as store
from heichat_appliance.store.events import Execute

#: The type of account data under which sync shows them.
PUSH_RULES = "m.push_rules"
#: The most bytes of a person's changes.
MAX_CHANGES = 256 * 1024

Changes = dict[str, Any]


class PushRules:
    """Reads and changes push rules. `kind` and `rule_id` name a rule as the paths of the API do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # -- reading -------------------------------------------------------------------------------------------------

    def content(self, user_id: str) -> dict[str, Any]:
        """The content of m.push_rules, which is also the answer of GET /pushrules/: {"global": ruleset}."""
        return {"global": pushrules.ruleset(user_id, changes_of(self._engine.read, user_id))}

    def rule(self, user_id: str, kind: str, rule_id: str) -> dict[str, Any]:
        """One rule; 404 M_NOT_FOUND if there is none."""
        try:
            return pushrules.find_rule(self.content(user_id)["global"], _checked(kind), rule_id)
        except pushrules.RuleNotFound as error:
            raise not_found(str(error))

    # -- writing -------------------------------------------------------------------------------------------------

    def put(
        self, user_id: str, kind: str, rule_id: str, body: dict[str, Any], before: str | None, after: str | None
    ) -> Deferred[None]:
        """Add a rule or replace it. Fails with 400 if it is none, or if `before` or `after` name none of theirs."""

        def change(changes: Changes) -> Changes:
            rule = pushrules.check_rule(_checked(kind), rule_id, body)
            return pushrules.set_rule(changes, kind, rule, before=before, after=after)

        return self._engine.write(self._change, user_id, change)

    def delete(self, user_id: str, kind: str, rule_id: str) -> Deferred[None]:
        """Delete one of the person's own rules; fails with 404 M_NOT_FOUND, 400 for a default rule."""
        return self._engine.write(
            self._change, user_id, lambda changes: pushrules.delete_rule(changes, _checked(kind), rule_id)
        )

    def set_enabled(self, user_id: str, kind: str, rule_id: str, enabled: object) -> Deferred[None]:
        """Enable or disable a rule; fails with 404 M_NOT_FOUND."""
        return self._engine.write(
            self._change, user_id, lambda changes: pushrules.set_enabled(changes, _checked(kind), rule_id, enabled)
        )

    def set_actions(self, user_id: str, kind: str, rule_id: str, actions: object) -> Deferred[None]:
        """Change what a rule does; fails with 404 M_NOT_FOUND, 400 for bad actions."""
        return self._engine.write(
            self._change, user_id, lambda changes: pushrules.set_actions(changes, _checked(kind), rule_id, actions)
        )

    @staticmethod
    def _change(tx: Transaction, user_id: str, change: Callable[[Changes], Changes]) -> None:
        before = changes_of(tx.execute, user_id)
        try:
            after = change(before)
        except pushrules.RuleNotFound as error:
            raise not_found(str(error))
        except pushrules.RuleError as error:
            raise invalid_param(str(error))
        if after == before:
            return
        text = orjson.dumps(after)
        if len(text) > MAX_CHANGES:
            raise MatrixError(413, "M_TOO_LARGE", "your push rules altogether would be too large")
        store.put_push_rule_changes(tx, user_id, text.decode())


def changes_of(execute: Execute, user_id: str) -> Changes:
    """A person's changes, in the form that protocol.pushrules describes."""
    row = store.push_rule_changes(execute, user_id)
    return orjson.loads(row[0]) if row else {}


def _checked(kind: str) -> str:
    if kind not in pushrules.KINDS:
        raise invalid_param(f"kind must be one of {', '.join(pushrules.KINDS)}")
    return kind
