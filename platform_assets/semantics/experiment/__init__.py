"""The statistics of experiments (semantics 10). What gathers their sums out of events is `semantics.experiments`.

`specification` is what a person says of an experiment. `moments` is what of a variant has to be known, `covariates` the
same with a covariate, `effects` how two variants differ, `inference` how sure that is, and `results` all of it for one
experiment.
"""
