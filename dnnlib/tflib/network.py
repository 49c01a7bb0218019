"""Network: a builder function with its variables, as a thing one can run, copy, average and pickle."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from dnnlib.snapshot.state import READABLE_VERSIONS, plain_options
from dnnlib.tflib import network_report, network_run, tfutil
from dnnlib.tflib.kept import KeptAsData, NotBuiltHere
from dnnlib.tflib.registry import Builder, find_builder
from dnnlib.tflib.tfutil import tf
from dnnlib.util import EasyDict, UserError

# Published loaders execute this text and take the builder from it; what they find is their own.
_SOURCE = "from {} import {}\n"
_VERSION_WITH_SHAPES = 5  # from this version on, states list the shapes and names of inputs and outputs


class _MissingComponent(LookupError):
    pass


class _AllComponents(EasyDict):
    """The components in a file. A builder that looks for another one would make it anew, of any size and at random."""

    def __contains__(self, key: object) -> bool:
        if not super().__contains__(key):
            raise _MissingComponent(key)
        return True


class Network(KeptAsData):
    """A named network of the current graph, or one of a file that cannot be built here (see `KeptAsData`).

    name: used for the scope of its variables; func_name: a registered builder's name (dotted forms ending in it are
    fine); static_kwargs: options of the builder that stay with the network and are pickled with it. Unknown options
    and builders are `UserError`s.

    Attributes: name, build_func_name, static_kwargs (EasyDict), components (EasyDict of sub-networks), own_vars
    (name -> variable of this network alone), vars (with the components' variables as `component_name/variable`),
    trainables, input_shape(s), output_shape(s), input_names, output_names, num_inputs, num_outputs, scope.
    """

    def __init__(self, name: str | None = None, func_name: str | None = None, **static_kwargs: Any) -> None:
        if not name or not func_name:
            raise UserError(f"Network: expected a name and a func_name, found name={name!r}, func_name={func_name!r}")
        with tfutil.gathered():  # with those of the components that the builder makes
            self._create(name, find_builder(func_name), static_kwargs, EasyDict())
            self.reset_own_vars()

    def _create(self, name: str, builder: Builder, static_kwargs: Mapping[str, Any], components: EasyDict) -> None:
        builder.check(static_kwargs, name)
        self.name = name
        self._builder = builder
        self.build_func_name = builder.name
        self.static_kwargs = EasyDict(static_kwargs)
        self.components = components
        self._run_cache: dict[Any, Any] = {}
        self._graph = tf.get_default_graph()
        with tf.name_scope(None):  # Components are made while their parent's scope is open.
            self.scope = self._graph.unique_name(name.replace("/", "_"), mark_as_used=True)
        self._build_template()

    def _build_template(self) -> None:
        with tf.name_scope(None), tf.control_dependencies(None), tf.name_scope(f"{self.scope}/"):
            inputs = [tf.placeholder(tf.float32, name=n) for n in self._builder.inputs]
            outputs = self._call_builder(inputs, {"is_template_graph": True}, reuse=False)
        self.input_templates = inputs
        self.output_templates = list(outputs) if isinstance(outputs, tuple) else [outputs]
        self.input_names = list(self._builder.inputs)
        self.output_names = [t.op.name.split("/")[-1] for t in self.output_templates]
        self.input_shapes = [tfutil.shape_to_list(t.shape) for t in inputs]
        self.output_shapes = [tfutil.shape_to_list(t.shape) for t in self.output_templates]
        self.num_inputs, self.num_outputs = len(inputs), len(self.output_templates)
        self.input_shape, self.output_shape = self.input_shapes[0], self.output_shapes[0]
        prefix = self.scope + "/"
        own = [v for v in tf.global_variables() if v.name.startswith(prefix)]
        self.own_vars = OrderedDict((v.name.removeprefix(prefix).split(":")[0], v) for v in own)
        self.vars = OrderedDict(self.own_vars)
        for component in self.components.values():
            self.vars.update((f"{component.name}/{n}", v) for n, v in component.vars.items())
        self.trainables = OrderedDict((n, v) for n, v in self.vars.items() if v.trainable)
        self.var_global_to_local = {v.name: n for n, v in self.vars.items()}

    def _call_builder(self, inputs: list[Any], dynamic: dict[str, Any], reuse: bool) -> Any:
        internal = {"components": self.components, "is_template_graph": False, **dynamic}
        options = {**self.static_kwargs, **internal}
        if "components" not in self._builder.options:
            options.pop("components")
        if "is_template_graph" not in self._builder.options:
            options.pop("is_template_graph")
        # A scope object with an absolute name: components are built inside their parent's builder.
        scope = tf.VariableScope(reuse=reuse or None, name=self.scope, use_resource=True)
        with tf.variable_scope(scope, auxiliary_name_scope=False):
            return self._builder.func(*inputs, **self._builder.select(options))

    def get_output_for(self, *in_expr: Any, return_as_list: bool = False, **dynamic_kwargs: Any) -> Any:
        """Build the network once more on given inputs, sharing its variables.

        in_expr: tensors or arrays, one per input (None: zeros for the batch of the first). dynamic_kwargs: builder
        options for this use only. Returns a tensor, or several as a tuple (or list). Raises `UserError` for unknown
        options, a wrong number of inputs or a different graph.
        """
        if tf.get_default_graph() is not self._graph:
            raise UserError(f"network {self.name!r} belongs to another graph than the current default one")
        if len(in_expr) != self.num_inputs:
            raise UserError(f"network {self.name!r}: expected {self.num_inputs} inputs, found {len(in_expr)}")
        self._builder.check(dynamic_kwargs, self.name)
        first = next((x for x in in_expr if x is not None), None)
        if first is None:
            raise UserError(f"network {self.name!r}: all inputs are None")
        with tf.name_scope(f"{self.scope}/{self.name.split('/')[-1]}_use"):
            batch = tf.shape(tf.convert_to_tensor(first))[0] if any(x is None for x in in_expr) else None
            inputs = []
            for expr, shape, template in zip(in_expr, self.input_shapes, self.input_templates, strict=True):
                x = tf.zeros([batch, *shape[1:]]) if expr is None else tf.convert_to_tensor(expr)
                x = tf.cast(x, template.dtype)
                if not x.shape.is_compatible_with(template.shape):
                    raise UserError(f"network {self.name!r}: input {template.op.name} is {shape}, found {x.shape}")
                inputs.append(tf.identity(x))
            out = self._call_builder(inputs, dynamic_kwargs, reuse=True)
        if return_as_list:
            return list(out) if isinstance(out, tuple) else [out]
        return out

    def run(self, *in_arrays: Any, **options: Any) -> Any:
        """Evaluate on numpy arrays in minibatches; see `dnnlib.tflib.network_run.run` for the options."""
        return network_run.run(self, in_arrays, **options)

    # Variables.

    def reset_own_vars(self) -> None:
        """Initialise this network's own variables anew."""
        self.require_built()
        tfutil.init_vars(self.own_vars.values())

    def reset_vars(self) -> None:
        """Initialise all variables anew, those of components included."""
        self.require_built()
        tfutil.init_vars(self.vars.values())

    def reset_trainables(self) -> None:
        """Initialise the trainable variables anew."""
        self.require_built()
        tfutil.init_vars(self.trainables.values())

    def find_var(self, var_or_local_name: str | tf.Variable) -> tf.Variable:
        """Variable by its name in `vars`. Raises `KeyError` listing similar names."""
        if not isinstance(var_or_local_name, str):
            return var_or_local_name
        if var_or_local_name not in self.vars:
            end = var_or_local_name.split("/")[-1]
            similar = [n for n in self.vars if n.endswith(end)][:6]
            raise KeyError(f"network {self.name!r} has no variable {var_or_local_name!r}; similar: {similar}")
        return self.vars[var_or_local_name]

    def get_var(self, var_or_local_name: str | tf.Variable) -> np.ndarray:
        """Value of a variable."""
        found = self.find_var(var_or_local_name)
        return found if self.is_kept else tfutil.run(found)

    def set_var(self, var_or_local_name: str | tf.Variable, new_value: Any) -> None:
        """Set a variable to an array of its shape."""
        self.require_built()
        tfutil.set_vars({self.find_var(var_or_local_name): new_value})

    def get_var_local_name(self, var_or_global_name: str | tf.Variable) -> str:
        """Name in `vars` of a variable given by itself or its name in the graph."""
        name = var_or_global_name if isinstance(var_or_global_name, str) else var_or_global_name.name
        return self.var_global_to_local[name]

    def copy_vars_from(self, src_net: Network) -> None:
        """Copy every variable by name. Raises `UserError` listing names that `src_net` lacks."""
        self._copy(src_net, list(self.vars), "variables")

    def copy_trainables_from(self, src_net: Network) -> None:
        """Copy every trainable variable by name. Raises `UserError` listing names that `src_net` lacks."""
        self._copy(src_net, list(self.trainables), "trainables")

    def copy_compatible_trainables_from(self, src_net: Network) -> None:
        """Copy the trainables whose name both networks have; a different shape is a `UserError`."""
        self._copy(src_net, [n for n in self.trainables if n in src_net.trainables], "trainables")

    def _copy(self, src_net: Network, names: list[str], what: str) -> None:
        missing = [n for n in names if n not in src_net.vars]
        if missing:
            raise UserError(f"copy to {self.name!r}: {src_net.name!r} lacks {len(missing)} {what}, first {missing[0]}")
        copy = tfutil.set_vars if src_net.is_kept else tfutil.copy_vars
        copy({self.vars[n]: src_net.vars[n] for n in names})

    def clone(self, name: str | None = None, **new_static_kwargs: Any) -> Network:
        """A new network with the same builder, options (changed by `new_static_kwargs`) and values."""
        net = object.__new__(Network)
        options = {**self.static_kwargs, **new_static_kwargs}
        with tfutil.gathered():
            net._create(name or self.name, self._builder, options, EasyDict())
            net.copy_vars_from(self)
        return net

    def convert(self, name: str | None = None, new_func_name: str | None = None, **new_static_kwargs: Any) -> Network:
        """Like `clone` with another builder; copies the trainables that fit by name."""
        options = {**self.static_kwargs, **new_static_kwargs}
        with tfutil.gathered():
            net = Network(name or self.name, new_func_name or self._builder.dotted, **options)
            net.copy_compatible_trainables_from(self)
        return net

    def setup_as_moving_average_of(
        self, src_net: Network, beta: Any = 0.99, beta_nontrainable: Any = 0.0
    ) -> tf.Operation:
        """Operation that moves the trainables towards `src_net`'s: v <- lerp(src, v, beta); others by the second beta.

        Variables that `src_net` lacks stay as they are.
        """
        updates = []
        with tf.name_scope(f"{self.scope}_moving_average"):
            for name, var in self.vars.items():
                if name in src_net.vars:
                    current = beta if name in self.trainables else beta_nontrainable
                    source = src_net.vars[name]
                    if isinstance(current, float) and current == 0.0:
                        updates.append(var.assign(source).op)
                    else:
                        updates.append(var.assign(tfutil.lerp(source, var, current)).op)
        return tf.group(*updates)

    # Reports.

    def list_ops(self) -> list[tf.Operation]:
        """Operations of the network's template graph, initialisers of variables left out."""
        return network_report.list_ops(self)

    def list_layers(self) -> list[tuple[str, tf.Tensor, list[tf.Variable]]]:
        """(layer name, output tensor, trainable variables) in the order of construction."""
        return network_report.list_layers(self)

    def print_layers(self, title: str | None = None, hide_layers_with_no_params: bool = False) -> None:
        """Print a table of layers with parameters, output shapes and weight shapes."""
        network_report.print_layers(self, title, hide_layers_with_no_params)

    # Pickling, in the published layout: version 4 (StyleGAN2) or 5 (StyleGAN2-ADA), whichever the builder is of.

    def __getstate__(self) -> dict[str, Any]:
        if self._kept is not None:
            return dict(self._kept)
        values = tfutil.run(list(self.own_vars.values())) if self.own_vars else []
        state = {
            "version": self._builder.version,
            "name": self.name,
            "static_kwargs": dict(self.static_kwargs),
            "components": dict(self.components),
            "build_module_src": _SOURCE.format(self._builder.module, self.build_func_name),
            "build_func_name": self.build_func_name,
            "variables": list(zip(self.own_vars, values, strict=True)),
        }
        if self._builder.version >= _VERSION_WITH_SHAPES:
            names = ("input_shapes", "output_shapes", "input_names", "output_names")
            state.update((name, list(getattr(self, name))) for name in names)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        version, name = state.get("version"), state.get("name")
        if version not in READABLE_VERSIONS:
            raise UserError(f"network {name!r} has state version {version}; readable are {READABLE_VERSIONS}")
        try:
            self.restore(state)
        except NotBuiltHere as err:
            self.keep(state, str(err))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Builds the network of a state, its components built already. Raises `NotBuiltHere`; damaged: `UserError`."""
        tfutil.init_tf()
        self.create(state)
        values = {n: np.asarray(v) for n, v in state["variables"]}
        own = {self.own_vars[n]: value for n, value in values.items()}
        # What a part of the network stores, too, is the network's to say: published training changed it there alone.
        built = self.components.values()
        parts = {p.own_vars[n]: value for p in built for n, value in values.items() if n in p.own_vars}
        tfutil.set_vars(own | parts)

    def create(self, state: Mapping[str, Any]) -> None:
        """What `restore` builds, without the values: there need be no session. Raises the same, but for shapes."""
        name, variables = state["name"], state["variables"]
        parts = state.get("components") or {}
        builder = find_builder(state["build_func_name"], state["version"], [n for n, _ in variables])
        for part in parts.values():
            if part.is_kept:
                raise NotBuiltHere(part.reason)
        options = plain_options(state["static_kwargs"], name)
        unknown = builder.unknown(options)
        if unknown:
            raise NotBuiltHere(f"network {name!r} ({builder.name}) has unknown options {', '.join(unknown)}")
        try:
            self._create(name, builder, options, _AllComponents(parts))
        except _MissingComponent as err:
            raise UserError(f"network {name!r}: the file lacks its component {err}") from err
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as err:
            reason = " ".join(str(err).split())[:200]
            raise UserError(f"network {name!r} ({builder.name}): its options make no network: {reason}") from err
        self.components = EasyDict(self.components)
        names = {n: None for n, _ in variables}
        missing = [n for n in self.own_vars if n not in names]
        foreign = [n for n in names if n not in self.own_vars]
        if missing:
            raise UserError(
                f"network {name!r}: the file lacks variables {missing[:4]} and has unknown variables {foreign[:4]}"
            )
        if foreign:
            raise NotBuiltHere(f"network {name!r} ({builder.name}) has unknown variables {', '.join(foreign[:4])}")
