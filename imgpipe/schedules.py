"""Learning rates that move during training."""

import keras

from imgpipe.schema import ConstantSchedule, CosineSchedule, ExponentialSchedule, Recipe


def build_schedule(recipe: Recipe, steps_per_epoch: int):
    """Build a recipe's learning rate: a number, or a function of the step as Keras wants it.

    A warm-up rises straight from 0; a constant or exponential schedule begins after it.
    """
    rate, schedules = recipe.learning_rate, keras.optimizers.schedules
    if recipe.schedule is None:
        return rate
    warmup_steps = round(recipe.schedule.warmup_epochs * steps_per_epoch)
    match recipe.schedule:
        case CosineSchedule():
            steps = (recipe.epochs + recipe.augmented_epochs) * steps_per_epoch
            return schedules.CosineDecay(
                0.0 if warmup_steps else rate,
                decay_steps=steps - warmup_steps,
                warmup_target=rate if warmup_steps else None,
                warmup_steps=warmup_steps,
            )
        case ExponentialSchedule(steps=steps, rate=factor, staircase=staircase):
            return WarmExponentialDecay(rate, steps, factor, staircase, warmup_steps=warmup_steps)
        case ConstantSchedule():
            return WarmExponentialDecay(rate, 1, 1.0, warmup_steps=warmup_steps)


class WarmExponentialDecay(keras.optimizers.schedules.ExponentialDecay):
    """Keras's exponential decay, begun after a straight rise from 0 over some steps."""

    def __init__(self, *arguments, warmup_steps: int, **named):
        super().__init__(*arguments, **named)
        self.warmup_steps = warmup_steps

    def __call__(self, step):
        """Return the learning rate at a step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        rising = self.initial_learning_rate * step / max(1, self.warmup_steps)
        decayed = super().__call__(keras.ops.maximum(step - self.warmup_steps, 0.0))
        return keras.ops.where(step < self.warmup_steps, rising, decayed)
