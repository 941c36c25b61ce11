# SPDX-License-Identifier: Apache-2.0
"""Stage 1: the kernel's facts, and nothing else."""
