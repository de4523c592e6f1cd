from __future__ import annotations

import pytest

from components.errors import MessagesWouldBeLost
from components.losses import refuse_losses
from kryonix.engines.errors import EngineFailed
from kryonix.errors import Failure, split
from kryonix.tenants.errors import WouldLoseMessages, translate_loss_errors
from tests.unit.components.test_refusals import QUEUE, holding


def test_a_refusal_names_the_remedy_of_a_tenant_stack() -> None:
    with pytest.raises(MessagesWouldBeLost) as refused:
        refuse_losses(holding(QUEUE), ())
    message, failure = split(str(refused.value))
    with pytest.raises(WouldLoseMessages) as raised, translate_loss_errors():
        raise EngineFailed(message, failure=failure)
    said = str(raised.value)
    assert said.endswith("accept the loss by naming each queue in `allow_delete` (`--allow-delete QUEUE`)")
    assert f"2 messages in {QUEUE}" in said
    assert "kryonix:allowDelete" not in said
    assert raised.value.queues == {QUEUE: 2}


def test_a_trim_of_the_oldest_messages_is_named() -> None:
    trim = Failure(kind="would-lose-oldest-messages", exit_status=2, queues={QUEUE: 2})
    with pytest.raises(WouldLoseMessages, match="the oldest messages of 1 queue"), translate_loss_errors():
        raise EngineFailed("anything", failure=trim)


def test_protection_of_resources_can_be_ignored() -> None:
    protected = EngineFailed("anything", failure=Failure(kind="protected"))
    with translate_loss_errors(ignore_protection=True):
        raise protected
    with pytest.raises(EngineFailed), translate_loss_errors():
        raise protected
