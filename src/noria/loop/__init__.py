"""The loop: one run of a pipeline, the policy that asks for runs, and what keeps both going."""
