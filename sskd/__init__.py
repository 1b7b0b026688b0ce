"""Knowledge Distillation Meets Self-Supervision (Xu et al., ECCV 2020): the trainer.

The package trains teachers, self-supervised heads and students. It knows nothing of the paper's tables; those are
in ``benchmarks``.
"""
