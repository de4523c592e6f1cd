"""Texts that are not ours: each as the Pulumi CLI, a plugin or a service writes it."""

from __future__ import annotations

import pulumi.automation as auto
import pytest
from pulumi.automation._cmd import CommandResult
from pulumi.automation.events import DiagnosticEvent, EngineEvent, OpType, ResourcePreEvent, StepEventMetadata

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
    # From here on as the plugins rabbitmq 3.5.3, postgresql 3.18.2 and docker 5.2.0 (Docker 20.10) report them.
    (
        "port-taken",
        3,
        "1 error occurred:\n\t* creating urn:pulumi:dev::real::docker:index/container:Container::c: 1 error occurred:"
        "\n\t* Unable to start container: Error response from daemon: driver failed programming external connectivity "
        "on endpoint c (92b2fbe28788315f9359cb2a22584ee7570a8b54b9429345019a43fa687e3bc7): Bind for 127.0.0.1:39555 "
        "failed: port is already allocated",
    ),
    (
        "port-taken",
        3,
        "1 error occurred:\n\t* creating urn:pulumi:dev::real::docker:index/container:Container::c: 1 error occurred:"
        "\n\t* Unable to start container: Error response from daemon: driver failed programming external connectivity "
        "on endpoint c (52cf2d45bfd804f04f0007d36fabc1a1b48317becef777f65163da3893e99ea2): Error starting userland "
        "proxy: listen tcp4 127.0.0.1:39556: bind: address already in use",
    ),
    (
        "service-unreachable",
        3,
        "docker native provider returned an unexpected error from Configure: failed to connect to any docker daemon",
    ),
    (
        "service-unreachable",
        3,
        "1 error occurred:\n\t* failed to create Docker client: Error pinging Docker server, please make sure that "
        "tcp://127.0.0.1:39557 is reachable and has a  '_ping' endpoint. Error: Cannot connect to the Docker daemon at "
        "tcp://127.0.0.1:39557. Is the docker daemon running?",
    ),
    (
        "service-unreachable",
        3,
        "1 error occurred:\n\t* Unable to create volume: error during connect: Post "
        '"http://127.0.0.1:39557/v1.41/volumes/create": EOF',
    ),
    (
        "service-unreachable",
        3,
        '1 error occurred:\n\t* Put "http://127.0.0.1:1/api/vhosts/v": dial tcp 127.0.0.1:1: connect: connection '
        "refused",
    ),
    (
        "service-unreachable",
        3,
        '1 error occurred:\n\t* Put "http://nowhere.invalid:15672/api/vhosts/v": dial tcp: lookup nowhere.invalid on '
        "10.255.255.53:53: no such host",
    ),
    ("service-unreachable", 3, "1 error occurred:\n\t* Error: API responded with a 401 Unauthorized"),
    (
        "service-unreachable",
        3,
        "1 error occurred:\n\t* error connecting to PostgreSQL server 127.0.0.1 (scheme: postgres): dial tcp "
        "127.0.0.1:1: connect: connection refused",
    ),
    (
        "service-unreachable",
        3,
        "1 error occurred:\n\t* error connecting to PostgreSQL server nowhere.invalid (scheme: postgres): dial tcp: "
        "lookup nowhere.invalid on 10.255.255.53:53: no such host",
    ),
    (
        "service-unreachable",
        3,
        "1 error occurred:\n\t* error connecting to PostgreSQL server 127.0.0.1 (scheme: postgres): pq: password "
        'authentication failed for user "admin" (28P01)',
    ),
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


def test_a_warning_about_many_resources_is_shown_once() -> None:
    shown: list[Event] = []
    log = EventLog(shown.append)
    for name, message in (("a", "not known"), ("b", "not known"), ("a", "deprecated")):
        event = DiagnosticEvent(message=message, color="never", severity="warning", urn=name)
        log.add(EngineEvent(0, 0, diagnostic_event=event))
    assert shown == [Diagnostic("warning", "not known", "a"), Diagnostic("warning", "deprecated", "a")]


def test_a_replacement_is_one_step() -> None:
    log = EventLog(lambda _: None)
    for op in (OpType.DELETE_REPLACED, OpType.REPLACE, OpType.CREATE_REPLACEMENT):
        metadata = StepEventMetadata(op, urn="urn:pulumi:dev::kryonix::note::a", type="note", provider="")
        log.add(EngineEvent(0, 0, resource_pre_event=ResourcePreEvent(metadata)))
    assert [(step.op, step.name) for step in log.steps] == [("replace", "a")]
