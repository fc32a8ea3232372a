"""Checks of models and samplers, for users: `check_model` and the joint-distribution test."""
