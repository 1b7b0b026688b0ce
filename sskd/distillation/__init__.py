"""The step of a distillation by itself: student, teacher and method in one module, for the suite and any other loop."""
