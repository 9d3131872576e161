"""What is told once after a change. The address carries a key of this table, never a sentence: nobody else can make us say something."""

from __future__ import annotations

from typing import Final

SAID: Final[dict[str, str]] = {
    "alert-seen-to": "It is noted that you see to it.",
    "budget-lifted": "The budget is lifted.",
    "budget-set": "The budget is set. It holds from the next request on.",
    "channel-added": "Alerts go there from now on. Try it with the test button.",
    "channel-removed": "No alert goes there any more.",
    "credential-added": "The key is stored, encrypted. It serves from the next request on.",
    "credential-disabled": "The key is switched off. It stays stored.",
    "credential-enabled": "The key is switched on.",
    "credential-removed": "The key is deleted.",
    "credit-added": "The credit is added.",
    "credit-adjusted": "The credit is adjusted.",
    "credit-refunded": "The refund is booked.",
    "deleted": "Deleted.",
    "feedback-given": "Thank you. It is kept beside the receipt.",
    "guardrail-given": "It is given. It holds from the next request on.",
    "guardrail-made": "The guardrail is made. It refuses nothing until you give it to somebody.",
    "guardrail-taken": "It is taken from them. Their other limits stay.",
    "invitation-revoked": "The invitation is taken back. Its link opens nothing any more.",
    "joined": "Welcome. You are a member now.",
    "key-deleted": "The key is deleted. Nobody can use it any more.",
    "key-disabled": "The key is switched off. No further request with it is admitted.",
    "key-enabled": "The key is switched on.",
    "member-removed": "They are removed. Their keys admit no request, and their sessions have ended.",
    "member-signed-out": "Every session of theirs has ended.",
    "order-set": "The order is changed. It holds from the next request on.",
    "password-set": "The password is set. Every other session of yours has ended.",
    "prompts-deleted": "What was stored is deleted.",
    "prompts-not-stored": "Prompts of the workspace are not stored, from this moment on.",
    "prompts-stored": "The rule holds from the next request on. Everybody in the workspace sees it here.",
    "rates-set": "The rates are set. They hold from the next request on.",
    "role-changed": "The role is changed. They sign in anew.",
    "saved": "Saved.",
    "session-ended": "That session has ended.",
    "share-set": "The share is set. It holds from the next request on.",
    "signed-out": "You are signed out.",
    "signed-out-everywhere": "Every session is ended, on every device.",
}
