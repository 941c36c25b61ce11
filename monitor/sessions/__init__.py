# SPDX-License-Identifier: Apache-2.0
"""Stage 2: whose event is this, and what did that process come from?"""
