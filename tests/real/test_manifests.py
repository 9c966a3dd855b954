"""Manifests, alert rules and other files that another program reads, judged by that program or by its published schemas."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kmsconn.config import forms
from kmsconn.config.description import environment_name
from kmsconn.config.networks import NETWORKS
from kmsconn.config.options import OPTIONS
from kmsconn.config.sources import load_config
from tools.panels import NODES

DEPLOY = Path(__file__).parents[2] / "deploy"
Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def rendered(kustomize: Path) -> Render:
    """Render the manifests of a network, or of an example."""

    def render(name: str, folder: str = "networks") -> list[dict[str, Any]]:
        command = [str(kustomize), "build", str(DEPLOY / "kustomize" / folder / name)]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - a program of this machine
        return list(yaml.safe_load_all(text))

    return render


def container(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the one container of the StatefulSet."""
    (workload,) = (one for one in manifests if one["kind"] == "StatefulSet")
    (only,) = workload["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


@pytest.mark.parametrize("network", NETWORKS)
def test_every_manifest_of_a_network_is_valid(network: str, rendered: Render) -> None:
    """What is of the Prometheus operator has no schema in Kubernetes itself."""
    for manifest in rendered(network):
        if not manifest["apiVersion"].startswith("monitoring.coreos.com"):
            kubernetes_validate.validate(manifest, "1.32", strict=True)


def test_a_misspelt_field_would_be_found(rendered: Render) -> None:
    manifest = next(one for one in rendered("testnet") if one["kind"] == "Service")
    manifest["spec"]["clusterIp"] = "None"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.32", strict=True)


@pytest.fixture
def several(rendered: Render) -> list[dict[str, Any]]:
    """The example with two processes over PostgreSQL, rendered."""
    return rendered("testnet-two-processes", "examples")


def test_two_processes_are_valid_and_keep_nothing_in_a_volume(several: list[dict[str, Any]]) -> None:
    for manifest in several:
        if not manifest["apiVersion"].startswith("monitoring.coreos.com"):
            kubernetes_validate.validate(manifest, "1.32", strict=True)
    (workload,) = (one for one in several if one["kind"] == "StatefulSet")
    assert workload["spec"]["replicas"] == 2
    assert "volumeClaimTemplates" not in workload["spec"]
    mounted = {one["name"] for one in container(several)["volumeMounts"]}
    assert mounted == {one["name"] for one in workload["spec"]["template"]["spec"]["volumes"]}


def test_two_processes_name_options_and_one_may_be_evicted(several: list[dict[str, Any]]) -> None:
    named = {one["name"] for one in container(several)["env"]}
    assert named >= {
        "KMS_CONNECTOR_JOURNAL",
        "KMS_CONNECTOR_JOURNAL_PASSWORD_FILE",
        "KMS_CONNECTOR_CONTROL_SOCKET",
    }
    assert named - {environment_name(name) for name in OPTIONS} == set()
    (budget,) = (one for one in several if one["kind"] == "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1


WALLETS = {"mainnet": {"KMS_CONNECTOR_AWS_KMS_CONFIG__KEY_ID": "alias/tx-sender"}}
URL = "http://127.0.0.1:1"


@pytest.mark.parametrize("network", NETWORKS)
def test_a_networks_folder_and_its_secrets_are_a_whole_configuration(
    network: str, rendered: Render, tmp_path: Path
) -> None:
    """The secrets are the wallet's file, or its id in AWS KMS, and the URLs of the nodes and Cores (docs/deploying.md)."""
    manifests = rendered(network)
    (config,) = (one["data"] for one in manifests if one["kind"] == "ConfigMap")
    (tmp_path / "wallet.key").write_text("11" * 32)
    mounted = {one["name"]: f"{tmp_path}/{Path(one['value']).name}" for one in container(manifests)["env"]}
    names = ("GATEWAY_URL", "ETHEREUM_URL", "KMS_CORE_ENDPOINTS")
    urls = {f"KMS_CONNECTOR_{name}": URL for name in names}
    settings = load_config(environ={**config, **mounted, **urls, **WALLETS.get(network, {})})
    assert settings.chains.gateway.chain_id == NETWORKS[network].gateway_chain_id
    assert settings.wallet.can_sign


def test_the_limit_of_memory_is_what_sizing_asks_for(rendered: Render) -> None:
    """The budgets of large messages, and as much for the process as the longest run took, twice."""
    budgets = OPTIONS["ciphertext_budget"].default + OPTIONS["core_reply_budget"].default
    limit = container(rendered("testnet"))["resources"]["limits"]["memory"]
    assert forms.size(f"{limit}B") >= budgets + 2 * 185_000_000


@pytest.mark.parametrize("network", NETWORKS)
def test_rules_and_dashboards_find_what_the_operator_scrapes(network: str, rendered: Render) -> None:
    """The label job is what jobLabel says, or the Service's name."""
    manifests = {one["kind"]: one for one in rendered(network)}
    monitor, service = manifests["ServiceMonitor"]["spec"], manifests["Service"]["metadata"]
    job = service["labels"][monitor["jobLabel"]] if "jobLabel" in monitor else service["name"]
    assert NODES[0] == f'job="{job}"'
    rules = yaml.safe_load((DEPLOY / "prometheus" / "kmsconn.rules.yml").read_text(encoding="utf-8"))
    assert manifests["PrometheusRule"]["spec"] == rules


def test_every_variable_is_one_of_an_option(rendered: Render) -> None:
    manifests = rendered("testnet")
    (config,) = (one["data"] for one in manifests if one["kind"] == "ConfigMap")
    named = {*config, *(one["name"] for one in container(manifests)["env"])}
    assert named - {environment_name(name) for name in OPTIONS} == set()


def test_the_grace_of_a_pod_is_longer_than_that_of_a_drain(rendered: Render) -> None:
    (workload,) = (one for one in rendered("testnet") if one["kind"] == "StatefulSet")
    assert (
        workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > OPTIONS["drain_grace"].default
    )


def test_the_selectors_find_the_pod(rendered: Render) -> None:
    manifests = {one["kind"]: one for one in rendered("testnet")}
    labels = manifests["StatefulSet"]["spec"]["template"]["metadata"]["labels"].items()
    assert manifests["Service"]["spec"]["selector"].items() <= labels
    assert manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= labels
    assert (
        manifests["ServiceMonitor"]["spec"]["selector"]["matchLabels"].items()
        <= manifests["Service"]["metadata"]["labels"].items()
    )


ROOT = Path(__file__).parents[2]
FILES = {
    "deploy/compose/compose.yaml": ("vendor.compose-spec", "healthcheck:", "healthchek:"),
    ".github/workflows/ci.yml": ("vendor.github-workflows", "runs-on:", "run-on:"),
}


def judged(schema: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Let the checker judge a file by a schema that it brings."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a module of the environment


@pytest.mark.once
@pytest.mark.rotating
@pytest.mark.parametrize("file", FILES)
def test_a_file_is_valid_by_its_schema(file: str) -> None:
    found = judged(FILES[file][0], ROOT / file)
    assert found.returncode == 0, found.stdout


@pytest.mark.once
@pytest.mark.rotating
@pytest.mark.parametrize("file", FILES)
def test_a_misspelt_field_of_a_file_would_be_found(file: str, tmp_path: Path) -> None:
    schema, right, wrong = FILES[file]
    text = (ROOT / file).read_text(encoding="utf-8")
    assert right in text
    path = tmp_path / Path(file).name
    path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    assert judged(schema, path).returncode == 1


FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"


def run(promtool: Path, *arguments: str, folder: Path = FOLDER) -> tuple[int, str]:
    """Run promtool; return its status and what it said."""
    done = subprocess.run(  # noqa: S603
        [promtool, *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_the_rules_are_valid(promtool: Path) -> None:
    status, said = run(promtool, "check", "rules", "kmsconn.rules.yml")
    assert status == 0, said
    assert "SUCCESS" in said


@pytest.mark.rotating
def test_each_alert_is_firing_in_its_scene_and_none_on_a_quiet_chain(promtool: Path) -> None:
    status, said = run(promtool, "test", "rules", "kmsconn.rules.test.yml")
    assert status == 0, said


def test_a_rule_that_looks_elsewhere_fails_its_scene(promtool: Path, tmp_path: Path) -> None:
    """Else the scenes would prove nothing."""
    rules = (FOLDER / "kmsconn.rules.yml").read_text(encoding="utf-8")
    (tmp_path / "kmsconn.rules.yml").write_text(rules.replace("kmsconn_gaps > 0", "kmsconn_gaps > 5"))
    scenes = (FOLDER / "kmsconn.rules.test.yml").read_text(encoding="utf-8")
    head, *several = scenes.split("  - name: ")
    [one] = [scene for scene in several if scene.startswith('"KmsconnCompletenessGap"')]
    (tmp_path / "one.test.yml").write_text(f"{head}  - name: {one}")
    status, said = run(promtool, "test", "rules", "one.test.yml", folder=tmp_path)
    assert (status, "KmsconnCompletenessGap" in said) == (1, True), said
