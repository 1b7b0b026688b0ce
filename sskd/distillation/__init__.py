"""Distillation as one module of student, teacher and method, for the suite's runs and any other training loop."""
