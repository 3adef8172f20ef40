"""Where a training run lies: what `training.fit` needs to train over several devices and
processes.

A run is told apart by its plain weights, loss and batches. The layout says how these lie on
the devices, so a checkpoint, which holds the plain state, continues under another layout.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec


class Layout(NamedTuple):
    """A run's place on its devices: fit's own loss over placed weights and batches, and how
    to place them.

    `loss` must equal fit's plain loss, up to the order of its sums. Nothing here is part of
    a checkpoint.
    """

    loss: Callable  # (placed weights, placed batch) -> (sum, count)
    place: Callable  # weights -> placed weights
    # placed weights -> weights as NumPy arrays, whole in every process (all must call it)
    unplace: Callable
    place_batch: Callable  # batch -> placed batch

    def place_state(self, state):
        """Return the state with its weights, and the parts of the optimizer that mirror
        them, placed.

        All other leaves, such as a count of steps, are repeated on every device.
        """
        trainable = self.place(state.trainable)
        everywhere = NamedSharding(
            jax.tree.leaves(trainable)[0].sharding.mesh, PartitionSpec()
        )

        def repeat(leaf):
            array = np.asarray(leaf)
            return jax.make_array_from_callback(
                array.shape, everywhere, lambda index: array[index]
            )

        optimizer = map_mirrors(self.place, repeat, state.optimizer, state.trainable)
        return state._replace(trainable=trainable, optimizer=optimizer)

    def unplace_state(self, state):
        """Return the plain state as NumPy arrays, the same in every process. All processes
        must call it.
        """
        return state._replace(
            trainable=self.unplace(state.trainable),
            optimizer=map_mirrors(
                self.unplace, np.asarray, state.optimizer, state.trainable
            ),
        )


def map_mirrors(of_mirror, of_leaf, tree, weights):
    """Map an optimizer's state: of_mirror over the subtrees that are built like the
    weights, of_leaf over the rest.
    """
    structure = jax.tree.structure(weights)

    def is_mirror(node):
        return jax.tree.structure(node) == structure

    return jax.tree.map(
        lambda n: of_mirror(n) if is_mirror(n) else of_leaf(n), tree, is_leaf=is_mirror
    )
