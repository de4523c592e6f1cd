"""Texts that are not ours: each as the Pulumi CLI, a plugin or a service writes it."""

from __future__ import annotations

import pulumi.automation as auto
import pytest
from pulumi.automation._cmd import CommandResult
from pulumi.automation.events import DiagnosticEvent, EngineEvent

from components.errors import BrokerUnreachable, MessagesWouldBeLost
from kryonix.engines.errors import EngineFailed
from kryonix.engines.events import Diagnostic, Event
from kryonix.engines.pulumi_events import EventLog, known_failure, translated

TEXTS = [
    (
        "invalid-config",
        2,
        "error: validating stack config: Stack 'dev' with configuration key 'kryonix:amqpPort' must be of type "
        "'integer'",
    ),
    ("invalid-config", 2, "error: validating stack config: Stack 'dev' is missing configuration value 't:m'"),
    (
        "invalid-config",
        2,
        "error: getting stack configuration: invalid YAML file: yaml: line 1: did not find expected ',' or ']'",
    ),
    ("wrong-passphrase", 3, "error: getting stack configuration: get stack secrets manager: incorrect passphrase"),
    (
        "wrong-passphrase",
        3,
        "error: getting stack configuration: get stack secrets manager: passphrase must be set with "
        "PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE environment variables",
    ),
    (
        "stack-locked",
        3,
        "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete the "
        "lock file with `pulumi cancel`.\n  file:///state/.pulumi/locks/organization/t/dev/3.json: created by "
        "root@host (pid 4711) at 2026-11-28T05:00:00Z",
    ),
    (
        "protected",
        1,
        'unable to replace resource "urn:pulumi:dev::t::x:y:Z::a"\nas it is currently marked for protection. To '
        "unprotect the resource, remove the `protect` flag from the resource in your Pulumi program and run "
        "`pulumi up`",
    ),
    (
        "protected",
        1,
        'resource "urn:pulumi:dev::t::x:y:Z::a" cannot be deleted\nbecause it is protected. To unprotect the resource, '
        "either remove the `protect` flag from the resource in your Pulumi program and run `pulumi up`, or use the "
        "command:\n`pulumi state unprotect 'urn:pulumi:dev::t::x:y:Z::a'`",
    ),
    (
        "port-taken",
        3,
        "Error response from daemon: failed to set up container networking: driver failed programming external "
        "connectivity on endpoint a: Bind for 127.0.0.1:39991 failed: port is already allocated",
    ),
    (
        "port-taken",
        3,
        "Error response from daemon: failed to set up container networking: driver failed programming external "
        "connectivity on endpoint a: failed to bind host port 127.0.0.1:5672/tcp: address already in use",
    ),
    (
        "service-unreachable",
        3,
        "Cannot connect to the Docker daemon at unix:///nope. Is the docker daemon running?",
    ),
    (
        "service-unreachable",
        3,
        'Get "http://127.0.0.1:15672/api/overview": dial tcp 127.0.0.1:15672: connect: connection refused',
    ),
    ("service-unreachable", 3, 'Get "http://nowhere:15672/api": dial tcp: lookup nowhere: no such host'),
    ("service-unreachable", 3, 'error connecting to PostgreSQL: pq: password authentication failed for user "kryonix"'),
]


@pytest.mark.parametrize(("kind", "status", "text"), TEXTS)
def test_a_text_of_the_cli_or_of_a_service_is_known(kind: str, status: int, text: str) -> None:
    failure = known_failure(text)
    assert failure is not None
    assert (failure.kind, failure.exit_status) == (kind, status)


def test_a_text_of_ours_says_nothing_without_its_data() -> None:
    lost = MessagesWouldBeLost("this change would delete 1 queue(s) that still hold messages", {"leads": 2})
    assert known_failure(lost.message) is None
    assert known_failure("the broker at http://localhost does not answer") is None


def failed_run(*messages: str, stderr: str = "") -> EngineFailed:
    """Return the error of a run of the CLI that has shown these error messages."""
    log = EventLog(lambda _: None)
    for message in messages:
        event = DiagnosticEvent(message=message, color="never", severity="error")
        log.add(EngineEvent(0, 0, diagnostic_event=event))
    with pytest.raises(EngineFailed) as caught, translated(log.errors):
        raise auto.CommandError(CommandResult(stdout="", stderr=stderr, code=255))
    return caught.value


def test_the_data_of_a_programs_error_is_read_and_not_shown() -> None:
    lost = str(MessagesWouldBeLost("queues hold messages", {"leads": 2}))
    failed = failed_run(lost, "update failed")
    assert (str(failed), failed.kind, failed.exit_status) == ("queues hold messages", "would-lose-messages", 2)
    assert failed.failure is not None
    assert failed.failure.queues == {"leads": 2}


def test_the_data_of_a_dynamic_provider_is_read_behind_its_traceback() -> None:
    down = str(BrokerUnreachable("the broker does not answer"))
    shown = (
        f"components.errors.BrokerUnreachable: {down}\n\nThe above exception was the direct cause of the following "
        'exception:\n\nTraceback (most recent call last):\n  File "x.py", line 1, in delete\n    raise error\n'
        f"components.errors.BrokerUnreachable: {down}\n"
    )
    failed = failed_run(shown)
    assert (str(failed), failed.kind, failed.exit_status) == ("the broker does not answer", "broker-unreachable", 3)


def test_the_data_on_standard_error_is_read_and_not_shown() -> None:
    lost = str(MessagesWouldBeLost("queues hold messages", {"leads": 2}))
    failed = failed_run(stderr=f"error: {lost}")
    assert (str(failed), failed.kind) == ("error: queues hold messages", "would-lose-messages")


def test_a_warning_is_shown_without_its_data() -> None:
    shown: list[Event] = []
    message = str(BrokerUnreachable("the broker does not answer"))
    event = DiagnosticEvent(message=message, color="never", severity="warning")
    EventLog(shown.append).add(EngineEvent(0, 0, diagnostic_event=event))
    assert shown == [Diagnostic("warning", "the broker does not answer", "")]
