# SPDX-License-Identifier: Apache-2.0
"""The content of a small agent."""

CODE = "print('I am an agent, and this is my code.')\n" * 3
