from __future__ import annotations

import pytest

from components.errors import MessagesWouldBeLost
from components.losses import refuse_losses
from kryonix.engines.errors import EngineFailed, WouldLoseMessages
from kryonix.tenants import losses
from tests.unit.components.test_refusals import QUEUE, holding


def test_a_refusal_names_the_remedy_of_a_tenant_stack() -> None:
    with pytest.raises(MessagesWouldBeLost) as refused:
        refuse_losses(holding(QUEUE), ())
    with pytest.raises(WouldLoseMessages) as raised, losses.told():
        raise EngineFailed(str(refused.value), 2)
    said = str(raised.value)
    assert said.endswith("accept the loss by naming each queue in allow_delete (`--allow-delete QUEUE`)")
    assert "kryonix:allowDelete" not in said
    assert raised.value.queues == {QUEUE: 2}
