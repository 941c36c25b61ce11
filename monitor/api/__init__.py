# SPDX-License-Identifier: Apache-2.0
"""Stage 6: people and programs ask and act."""
