"""OpenBao as a supervised part: the Vault behind the broker."""

from __future__ import annotations

from gdi.local_federation.layout import Layout
from gdi.local_federation.openbao import KeyLostError, OpenBao
from gdi.local_federation.supervisor import ServiceSpec, StartAgain


def server(layout: Layout) -> OpenBao:
    return OpenBao(layout.folder("openbao"), layout.ports["openbao"], layout.ports["openbao_cluster"])


def service(layout: Layout) -> ServiceSpec:
    bao = server(layout)

    def settle() -> None:
        try:
            bao.settle()
        except KeyLostError as error:
            raise StartAgain(str(error)) from error

    return ServiceSpec("openbao", bao.argv(), bao.ready, prepare=bao.prepare, settle=settle)
