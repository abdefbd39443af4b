"""The one configuration, a section a file: the same serves YAML files, the command line and Prefect's run form."""

from fishersft.config.approval import ApprovalConfig
from fishersft.config.corpus import CorpusConfig
from fishersft.config.curate import CurateConfig
from fishersft.config.evaluation import EvaluationConfig
from fishersft.config.finetune import FinetuneConfig
from fishersft.config.judging import JudgeConfig, JudgingConfig
from fishersft.config.model import DEFAULT_MODEL, EmbeddingConfig, ModelConfig
from fishersft.config.selection import MEMORY_PATTERN, SelectionConfig

__all__ = [
    "DEFAULT_MODEL",
    "MEMORY_PATTERN",
    "ApprovalConfig",
    "CorpusConfig",
    "CurateConfig",
    "EmbeddingConfig",
    "EvaluationConfig",
    "FinetuneConfig",
    "JudgeConfig",
    "JudgingConfig",
    "ModelConfig",
    "SelectionConfig",
]
