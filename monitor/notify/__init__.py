# SPDX-License-Identifier: Apache-2.0
"""Stage 7: people hear of it who are not looking."""
