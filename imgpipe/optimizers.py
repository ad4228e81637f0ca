"""What moves the weights in training, and learning rates that move themselves."""

import keras
import tensorflow as tf

from imgpipe.schema import ConstantSchedule, CosineSchedule, ExponentialSchedule, Recipe


def build_optimizer(recipe: Recipe, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """Build the optimiser that a recipe names, with Keras's defaults for what it leaves open.

    Args:
        recipe: the model's recipe.
        steps_per_epoch: which schedules count in.
    """
    learning_rate = _build_schedule(recipe, steps_per_epoch)
    match recipe.optimizer:
        case "adam":
            return OnePassAdam(learning_rate, name="adam")
        case "adamw":
            return OnePassAdam(learning_rate, weight_decay=recipe.weight_decay, name="adamw")
        case "sgd":
            return keras.optimizers.SGD(learning_rate, momentum=recipe.momentum)
        case "rmsprop":
            return keras.optimizers.RMSprop(learning_rate, momentum=recipe.momentum)


class OnePassAdam(keras.optimizers.Adam):
    """Adam that passes over a variable and its moments once a step, where Keras's does many times.

    With a `weight_decay` it is AdamW, as Keras's own is.
    """

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self._left = set()

    def leave(self, variable: keras.Variable) -> tuple[keras.Variable, keras.Variable]:
        """Leave a variable to whoever computes its gradient, to move it there and then.

        What comes here as its gradient is from now on what it becomes.

        Returns:
            Its moments, of the gradient and its square, which are left likewise.
        """
        self._left.add(self._get_variable_index(variable))
        return self._get_moments(variable)

    def find_rates(self) -> tf.Tensor:
        """Return what the present step works with, beside gradient and moments.

        That is float32 (4,): the learning rate, made up for moments that begin at 0; what part of
        the way to the gradient, and to its square, the moments go; and what is added to the root.
        """
        step = tf.cast(self.iterations + 1, tf.float32)
        first, second = map(tf.constant, (self.beta_1, self.beta_2))
        rate = self.learning_rate * tf.sqrt(1 - second**step) / (1 - first**step)
        return tf.stack([rate, 1 - first, 1 - second, self.epsilon])

    def update_step(self, gradient, variable, learning_rate):
        """Update one variable, by the formula of Keras's optimiser."""
        if self._get_variable_index(variable) in self._left:
            variable.assign(gradient)
            return
        means, squares = self._get_moments(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=means.value.handle,
            v=squares.value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )

    def _get_moments(self, variable: keras.Variable) -> tuple[keras.Variable, keras.Variable]:
        index = self._get_variable_index(variable)
        return self._momentums[index], self._velocities[index]


def _build_schedule(recipe: Recipe, steps_per_epoch: int):
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
            return _WarmExponentialDecay(rate, steps, factor, staircase, warmup_steps=warmup_steps)
        case ConstantSchedule():
            return _WarmExponentialDecay(rate, 1, 1.0, warmup_steps=warmup_steps)


class _WarmExponentialDecay(keras.optimizers.schedules.ExponentialDecay):
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
