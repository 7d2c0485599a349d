"""An ablation sweep orchestrator: a sweep file in, the paper's table out."""

__version__ = "0.1.0"
