"""The paper's tables and figures: what runs they need, how results become rows, and the paper's own numbers."""
