# SPDX-License-Identifier: Apache-2.0
"""Stage 5: what happened is written down before anybody is told."""
