"""The manifests of deploy/kustomize, rendered by kustomize and judged by the schemas of Kubernetes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kmsconn.config.networks import NETWORKS
from kmsconn.config.options import OPTIONS, environment_name

DEPLOY = Path(__file__).parents[2] / "deploy"

Render = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def rendered(kustomize: Path) -> Render:
    """Render the manifests of a network."""

    def render(network: str) -> list[dict[str, Any]]:
        command = [str(kustomize), "build", str(DEPLOY / "kustomize" / "networks" / network)]
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
    """The ServiceMonitor is of the Prometheus operator; Kubernetes itself has no schema of it."""
    for manifest in rendered(network):
        if manifest["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(manifest, "1.32", strict=True)


def test_a_misspelt_field_would_be_found(rendered: Render) -> None:
    manifest = next(one for one in rendered("testnet") if one["kind"] == "Service")
    manifest["spec"]["clusterIp"] = "None"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, "1.32", strict=True)


@pytest.fixture
def several(kustomize: Path) -> list[dict[str, Any]]:
    """The example with two processes over PostgreSQL, rendered."""
    command = [str(kustomize), "build", str(DEPLOY / "kustomize" / "examples" / "testnet-two-processes")]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603 - a program of this machine
    return list(yaml.safe_load_all(text))


def test_two_processes_are_valid_and_keep_nothing_in_a_volume(several: list[dict[str, Any]]) -> None:
    for manifest in several:
        if manifest["kind"] != "ServiceMonitor":
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


@pytest.mark.parametrize("network", NETWORKS)
def test_a_networks_folder_names_that_network(network: str, rendered: Render) -> None:
    assert container(rendered(network))["args"] == ["run", "--network", network]


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
