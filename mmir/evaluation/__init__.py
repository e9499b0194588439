"""Test loops with missing or corrupted modalities; metrics; analysis of features."""

from .block_features import BlockFeatures
from .corruption_loop import CorruptionTestLoop, default_corruptions
from .corruptions import CORRUPTIONS, Corruption, corrupt
from .feature_frequency import RadialPower, energy_map, radial_power, tapered
from .feature_spectrum import (
    FeatureSpectrum,
    components_for,
    effective_rank,
    pca_spectrum,
)
from .galleries import draw_galleries, load_permutations
from .missing_loop import MissingModalityTestLoop
from .protocols import PROTOCOLS, Protocol, get_protocol
from .rank_features import cosine_distances, rank_features
from .ranked_lists import ranked_lists
from .ranking import Ranking, join_rankings, rank_metrics
from .reranking import rerank
from .sod_metric import SODMetric
from .variant_loop import VariantTestLoop
from .verification_metric import VerificationMetric
from .vireid_metric import VIReIDMetric

__all__ = [
    'CORRUPTIONS',
    'PROTOCOLS',
    'BlockFeatures',
    'Corruption',
    'CorruptionTestLoop',
    'FeatureSpectrum',
    'MissingModalityTestLoop',
    'Protocol',
    'RadialPower',
    'Ranking',
    'SODMetric',
    'VIReIDMetric',
    'VariantTestLoop',
    'VerificationMetric',
    'components_for',
    'corrupt',
    'cosine_distances',
    'default_corruptions',
    'draw_galleries',
    'effective_rank',
    'energy_map',
    'get_protocol',
    'join_rankings',
    'load_permutations',
    'pca_spectrum',
    'radial_power',
    'rank_features',
    'rank_metrics',
    'ranked_lists',
    'rerank',
    'tapered',
]
