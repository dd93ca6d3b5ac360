"""The charts' values: null, long names, placement, addresses, settings that pass through. By `helm template` alone."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, ValidationError

from node_gateway.settings import Settings as GatewaySettings
from tests.kubernetes.charts import CHARTS, VALUES, environment_of, helm, named, rendered, template
from token_broker.settings import Settings as BrokerSettings

EVERYTHING = {"gdi": "gdi/ci/full.yaml", "gdi-node": "gdi-node/ci/full.yaml"}
SETTINGS: dict[str, tuple[str, str, str, str, type[BrokerSettings | GatewaySettings]]] = {
    "gdi": ("broker", "Deployment", "gdi-broker", "TOKEN_BROKER_", BrokerSettings),
    "gdi-node": ("gateway", "Deployment", "node-a-gateway", "NODE_GATEWAY_", GatewaySettings),
}
LONGEST = 53  # letters of a release's name, Helm's own limit


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """As Helm lays values files over each other."""
    both = {
        k: merged(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v for k, v in over.items()
    }
    return {**base, **both}


def places(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every map and every leaf."""
    for key, value in values.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from places(value, (*above, key))


def without(values: dict[str, Any], place: tuple[str, ...]) -> dict[str, Any]:
    """What Helm makes of null: the key is gone."""
    changed = copy.deepcopy(values)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    return changed


def sentences(errors: Iterable[ValidationError]) -> Iterator[str]:
    """Of the errors and of what is below an `anyOf`."""
    for error in errors:
        yield f"{[*error.absolute_path]}: {error.message}"
        yield from sentences(error.context)


def nulled(chart: str, place: tuple[str, ...]) -> tuple[str, str]:
    """(the key as a JSON pointer has it, what Helm says on standard error) where all is rendered but null there."""
    over: Any = None
    for key in reversed(place):
        over = {key: over}
    done = template(EVERYTHING[chart], "-f", "-", stdin=json.dumps(over))
    return place[-1].replace("/", "~1"), done.stderr if done.returncode else ""


@pytest.mark.parametrize("chart", EVERYTHING)
def test_null_at_any_place_renders_or_is_refused_by_the_keys_name(chart: str) -> None:
    """The schema judges most of them, as Helm does before it renders. What it lets pass is rendered."""
    defaults = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    everything = merged(defaults, yaml.safe_load((CHARTS / EVERYTHING[chart]).read_text()))
    schema = Draft7Validator(json.loads((CHARTS / chart / "values.schema.json").read_text()))
    assert not list(schema.iter_errors(everything))
    passed, refused = [], []
    for place in places(everything):
        errors = [*sentences(schema.iter_errors(without(everything, place)))]
        if not errors:
            passed.append(place)
            continue
        refused.append(place)
        named_there = any(f"'{place[-1]}'" in error or "should be non-empty" in error for error in errors)
        assert named_there, f"{'.'.join(place)}: {errors}"
    # That Helm's own words name the key, too: at the top, in the middle, at a leaf.
    shown = [next(p for p in refused if len(p) == depth) for depth in (1, 2, 3)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for key, error in pool.map(lambda place: nulled(chart, place), [*shown, *passed]):
            assert "nil pointer" not in error and (not error or key in error), error
        assert all(error for _, error in pool.map(lambda place: nulled(chart, place), shown))


@pytest.mark.parametrize("values", VALUES)
def test_names_stay_within_63_letters_whatever_the_releases_name(values: str) -> None:
    namespace = "n" * 57  # with `-tasks`, the longest whose derived namespaces still fit
    objects: list[dict[str, list[dict[str, Any]]]] = []
    for end in "ab":  # of two releases, to the letter the same but for the last
        release = "r" * (LONGEST - 1) + end
        done = template(values, release=release, namespace=namespace)
        assert done.returncode == 0, done.stderr
        by_kind: dict[str, list[dict[str, Any]]] = {}
        for one in yaml.safe_load_all(done.stdout):
            if one:
                by_kind.setdefault(one["kind"], []).append(one)
                assert len(one["metadata"]["name"]) <= 63, one["metadata"]["name"]
        objects.append(by_kind)
    for kind, ours in objects[0].items():
        if kind in ("Namespace", "ServiceAccount"):  # shared, or named by the values
            continue
        names = [{(o["metadata"].get("namespace"), o["metadata"]["name"]) for o in one[kind]} for one in objects]
        assert not names[0] & names[1], f"two releases share a {kind}"
        assert len(names[0]) == len(ours)
    held = {kind: {o["metadata"]["name"] for o in ours} for kind, ours in objects[0].items()}
    for deployment in objects[0]["Deployment"]:
        spec = deployment["spec"]["template"]["spec"]
        assert spec["serviceAccountName"] in held["ServiceAccount"]
        maps = {v["configMap"]["name"] for v in spec["volumes"] if "configMap" in v}
        claims = {v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v}
        assert maps <= held["ConfigMap"] and claims <= held.get("PersistentVolumeClaim", set())


def test_a_short_releases_name_is_what_its_objects_begin_with() -> None:
    for length, whole in ((46, True), (47, False)):
        done = template("gdi/ci/minimal.yaml", release="r" * length)
        names = [o["metadata"]["name"] for o in yaml.safe_load_all(done.stdout) if o and o["kind"] == "Service"]
        assert (names == ["r" * length + "-broker"]) is whole and len(names[0]) <= 53


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ("gdi/ci/minimal.yaml", "runs.namespace"),
        ("gdi-node/ci/own.yaml", "runs.namespace"),
        ("gdi-node/ci/funnel.yaml", "funnel.tasks.namespace"),
    ],
)
def test_a_namespace_of_58_letters_needs_a_name_for_the_one_beside_it(values: str, key: str) -> None:
    others = ("--set", "node.placement=coordinator") if "funnel" in values else ()
    if "own" in values:
        others = ("--set", "funnel.tasks.namespace=tasks")
    done = template(values, *others, namespace="n" * 59)
    assert done.returncode != 0 and key in done.stderr, done.stderr
    done = template(values, *others, "--set", f"{key}=beside", namespace="n" * 59)
    assert done.returncode == 0, done.stderr


def test_the_migration_runs_where_and_as_large_as_the_broker_does() -> None:
    objects = rendered("gdi/ci/full.yaml", "--set", "broker.resources.limits.memory=700Mi")
    broker = named(objects, "Deployment", "gdi-broker")["spec"]["template"]["spec"]
    migration = named(objects, "Job", "gdi-broker-migrate")["spec"]["template"]["spec"]
    for name in ("nodeSelector", "tolerations", "priorityClassName", "imagePullSecrets", "securityContext"):
        assert broker[name] and migration[name] == broker[name], name
    resources = migration["containers"][0]["resources"]
    assert resources == broker["containers"][0]["resources"] and resources["limits"]["memory"] == "700Mi"


def test_funnels_server_runs_where_it_is_told() -> None:
    chosen = '{"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "gdi"}], "priorityClassName": "high"}'
    more = [f"--set-json=funnel.{name}={json.dumps(value)}" for name, value in json.loads(chosen).items()]
    objects = rendered("gdi-node/ci/funnel.yaml", *more)
    spec = named(objects, "Deployment", "node-a-funnel")["spec"]["template"]["spec"]
    assert {name: spec[name] for name in json.loads(chosen)} == json.loads(chosen)


@pytest.mark.parametrize("chart", SETTINGS)
def test_servers_listen_on_the_address_that_is_named(chart: str) -> None:
    part, kind, name, prefix, _ = SETTINGS[chart]
    environment = environment_of(named(rendered(f"{chart}/ci/minimal.yaml", "--set", f"{part}.listen=::"), kind, name))
    hosts = {key: value for key, value in environment.items() if key.removeprefix(prefix).endswith("HOST")}
    assert len(hosts) == {"gdi": 2, "gdi-node": 3}[chart] and set(hosts.values()) == {"::"}
    assert "0.0.0.0" not in environment.values()


@pytest.mark.parametrize("values", VALUES)
def test_what_the_chart_sets_is_what_the_server_reads(values: str) -> None:
    part, kind, name, prefix, settings = SETTINGS[values.split("/")[0]]
    more = '{"MAX_GRANT_DAYS": 30}' if part == "broker" else '{"RUN_CHECK_SECONDS": 3}'
    deployment = named(rendered(values, "--set-json", f"{part}.settings={more}"), kind, name)
    environment = environment_of(deployment)
    assert all(key.startswith(prefix) for key in environment)
    read = settings.model_validate({key.removeprefix(prefix).lower(): value for key, value in environment.items()})
    assert {key.removeprefix(prefix).lower() for key in environment} <= set(settings.model_fields)
    assert getattr(read, *json.loads(more.lower())) == next(iter(json.loads(more).values()))


@pytest.mark.parametrize("chart", SETTINGS)
def test_any_other_setting_passes_through_as_it_is_written(chart: str) -> None:
    part, kind, name, prefix, _ = SETTINGS[chart]
    given = '{"WHOLE": 100000000, "PART": 0.25, "TEXT": "a: \\"b\\" #", "SWITCH": true}'
    objects = rendered(f"{chart}/ci/minimal.yaml", "--set-json", f"{part}.settings={given}")
    environment = environment_of(named(objects, kind, name))
    assert {k: environment[f"{prefix}{k}"] for k in json.loads(given)} == {
        "WHOLE": "100000000",
        "PART": "0.25",
        "TEXT": 'a: "b" #',
        "SWITCH": "true",
    }


@pytest.mark.parametrize("chart", SETTINGS)
@pytest.mark.parametrize(
    "wrong",
    [
        '{"PUBLIC_URL": "https://x.org"}',
        '{"lower": 1}',
        '{"A B": 1}',
        '{"CLIENT_SECRET": "x"}',
        '{"LIST": [1]}',
        '{"PREFIX_A": 1}',
    ],
)
def test_a_setting_of_the_charts_own_a_secret_or_a_wrong_name_is_refused(chart: str, wrong: str) -> None:
    part, _, _, prefix, _ = SETTINGS[chart]
    wrong = wrong.replace("PREFIX_", prefix)
    (key,) = json.loads(wrong)
    done = template(f"{chart}/ci/minimal.yaml", "--set-json", f"{part}.settings={wrong}")
    assert done.returncode != 0 and "settings" in done.stderr and key in done.stderr, done.stderr


def test_an_issuer_may_end_with_a_slash() -> None:
    issuer = "https://login.example.org/oidc/"
    objects = rendered("gdi/ci/minimal.yaml", "--set", f"broker.oidc.issuer={issuer}")
    assert environment_of(named(objects, "Deployment", "gdi-broker"))["TOKEN_BROKER_OIDC_ISSUER"] == issuer
    objects = rendered("gdi-node/ci/funnel.yaml", "--set", f"funnel.oidc.issuer={issuer}")
    (config,) = (o["data"]["server.yaml"] for o in objects if "server.yaml" in o.get("data", {}))
    assert "https://login.example.org/oidc/.well-known/openid-configuration" in config


def test_airflows_pods_have_a_label_or_the_chart_says_so() -> None:
    """Without one, every pod of Airflow's namespace could call the broker."""
    done = helm(
        *(
            "template",
            "gdi",
            str(CHARTS / "gdi"),
            "--kube-version",
            "1.34.2",
            "-f",
            str(CHARTS / "gdi/ci/minimal.yaml"),
        ),
        *("--set", "airflow.podLabels.tier=null"),
    )
    assert done.returncode != 0 and "podLabels" in done.stderr, done.stderr
