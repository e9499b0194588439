"""Protocols of visible-infrared person re-identification.

A protocol says which gallery images a query may find, how ranks are counted, and how
the galleries of the trials are drawn. Results are only comparable under the same
protocol: two that are both called official share 9 to 20 of the 301 gallery images of a
trial, so the name stands in every line of a log.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Literal

from mmir.utils.errors import UserError

SYSU_RGB, SYSU_INDOOR, SYSU_IR = (1, 2, 4, 5), (1, 2), (3, 6)
"""Cameras of SYSU-MM01: RGB, RGB indoors, infrared."""

LLCM_RGB = (1, 2, 3, 4, 5, 6, 7, 8, 9)
LLCM_IR = (1, 2, 4, 5, 6, 7, 8, 9)
"""Cameras of LLCM. A number is the same place in both modalities; 3 has no infrared."""


@dataclass(frozen=True)
class Protocol:
    """Rules of one evaluation.

    Attributes:
        name: Name for logs and configs.
        query: Modality of the queries, `rgb` or `ir`; the gallery is the other one.
            None where both sides may be of any modality.
        query_cams: Cameras of the queries; empty: any.
        gallery_cams: Cameras that are searched; empty: any. Gallery images of other
            cameras are left out.
        known_cams: Cameras a gallery image may have; empty: any.
        hidden: Which gallery images are hidden from a query:

            - `none`: none;
            - `same_place`: those of the cameras at the same place, of all identities
              (camera 2 from queries of camera 3 in SYSU-MM01);
            - `same_view`: those of the same identity and the same camera.
        unique_ids: Count a rank in identities, each at its first image, not in images
            (SYSU-MM01, LLCM). Average precision always counts images.
        draw: How the gallery of a trial is drawn: `all` images, by a `seed` as in the
            release of AGW (Ye et al., TPAMI 2021), or by the `official` permutations
            of SYSU-MM01.
        shots: Gallery images per identity and camera, where they are drawn.
        trials: Number of trials whose mean is reported.
        swapped: Take the drawn gallery as queries and all queries as the gallery.
    """

    name: str
    query: Literal['rgb', 'ir'] | None = None
    query_cams: tuple[int, ...] = ()
    gallery_cams: tuple[int, ...] = ()
    known_cams: tuple[int, ...] = ()
    hidden: Literal['none', 'same_place', 'same_view'] = 'none'
    unique_ids: bool = False
    draw: Literal['all', 'seed', 'official'] = 'all'
    shots: int = 1
    trials: int = 1
    swapped: bool = False


SAME_PLACE = (3, 2)
"""Camera of a query and the camera hidden from it by the rule `same_place`."""


def _sysu(name: str, **rules: object) -> Protocol:
    """SYSU-MM01 (Wu et al., ICCV 2017): infrared queries, RGB gallery."""
    shared = dict(query='ir', query_cams=SYSU_IR, known_cams=SYSU_RGB, trials=10)
    return Protocol(name, hidden='same_place', unique_ids=True, **shared, **rules)


def _llcm(name: str, query: str, **rules: object) -> Protocol:
    """LLCM (Zhang and Wang, CVPR 2023)."""
    sides = (LLCM_IR, LLCM_RGB) if query == 'ir' else (LLCM_RGB, LLCM_IR)
    shared = dict(hidden='same_view', unique_ids=True, draw='seed', trials=10)
    cams = dict(query_cams=sides[0], gallery_cams=sides[1], known_cams=sides[1])
    return Protocol(name, query=query, **shared, **cams, **rules)


_ALL, _INDOOR = dict(gallery_cams=SYSU_RGB), dict(gallery_cams=SYSU_INDOOR)
_LISTED = (
    _sysu('sysu_all_agw', draw='seed', **_ALL),
    _sysu('sysu_indoor_agw', draw='seed', **_INDOOR),
    _sysu('sysu_all_official', draw='official', **_ALL),
    _sysu('sysu_indoor_official', draw='official', **_INDOOR),
    _sysu('sysu_all_official_10shot', draw='official', shots=10, **_ALL),
    _sysu('sysu_indoor_official_10shot', draw='official', shots=10, **_INDOOR),
    Protocol('regdb_rgb2ir', query='rgb'),
    Protocol('regdb_ir2rgb', query='ir'),
    _llcm('llcm_ir2rgb', 'ir'),
    _llcm('llcm_rgb2ir', 'rgb'),
    # Drawn infrared images search all RGB images, as the release of the dataset does
    # under the name "VIS to IR". Only to compare with numbers of that release.
    _llcm('llcm_rgb2ir_released', 'rgb', swapped=True),
    Protocol('plain'),
    Protocol('same_view', hidden='same_view'),
)
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType({p.name: p for p in _LISTED})
"""Protocols by name. `plain` and `same_view` serve datasets without an own protocol."""


def get_protocol(protocol: str | Protocol | Mapping) -> Protocol:
    """Look up a protocol.

    Args:
        protocol (str | Protocol | Mapping): Name in :data:`PROTOCOLS`; a protocol,
            which is returned as it is; or the attributes of one of your own.

    Returns:
        Protocol: The protocol.

    Raises:
        UserError: The name is unknown, or an attribute is.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if isinstance(protocol, Mapping):
        known = [field.name for field in fields(Protocol)]
        if 'name' not in protocol or not protocol.keys() <= {*known}:
            raise UserError(
                f'a protocol has a name and may have {known[1:]}, got {[*protocol]}'
            )
        return Protocol(**protocol)
    if protocol not in PROTOCOLS:
        raise UserError(
            f'unknown protocol {protocol!r}; choose one of {", ".join(PROTOCOLS)}'
        )
    return PROTOCOLS[protocol]
