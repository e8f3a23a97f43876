"""Section 17.4.2: `trace` reads any `nn.Module` whose forward is a fixed composition of layers.

Nested modules are opened, functions such as ``F.relu``, ``+`` and ``(x - mean) / std`` become
layers of their own (`functions`). The graph holds the network's own layers, so it sees new weights
and a change of mode; nothing is copied. What cannot be read is refused with what to write instead.
"""

import copy
import operator
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from adversarial_lab.certified.functions import Batch, called, layer_of
from adversarial_lab.certified.graph import INPUT, Graph, Node
from adversarial_lab.certified.layers import Add, Concat, Divide, Scale, Shift
from adversarial_lab.certified.wrappers import unchecked, unwrap, unwrapped
from adversarial_lab.nets import Normalize
from adversarial_lab.training import attacking

LEAVES: set[type[nn.Module]] = {Normalize, Add, Concat}  # layers outside torch.nn, not opened
SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
DIFFERENCES = (operator.sub, operator.isub, torch.sub, "sub", "sub_")
PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
QUOTIENTS = (operator.truediv, operator.itruediv, torch.div, "div", "div_")
NEGATIVES = (operator.neg, torch.neg, "neg")
IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
# what may give its input itself, or a view of it
ALIASES = {"view", "reshape", "flatten", "unflatten", "permute", "transpose", "squeeze"}
ALIASES |= {"unsqueeze", "getitem", "contiguous", "dropout", "dropout1d", "dropout2d", "dropout3d"}
ALIASING = (nn.Flatten, nn.Unflatten, nn.Identity, nn.modules.dropout._DropoutNd)

Step = tuple[str, nn.Module, tuple[str, ...]]  # name, layer, inputs


def trace(model: nn.Module | Graph, x: Tensor | None = None) -> Graph:
    """The graph of a network, in milliseconds; a graph is returned as it is.

    x: one example (1, *d), needed only where `forward` asks for other sizes than the batch's.

    Raises ValueError where `forward` branches on values, calls what has no row in `FUNCTIONS`,
    takes or returns more than one tensor, joins examples, writes over a value that is read again,
    or where a module has hooks, which bounds would not see.
    """
    if isinstance(model, Graph):
        return model
    _check_model(model)
    root = _Root(unwrap(model))
    with unwrapped(root), unchecked():
        return _Reader(x).read(root)


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"model must be a torch.nn.Module, got {type(model).__name__}: put the call in the"
            " forward of a module of your own"
        )
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"layer {name!r} is compiled by TorchScript, which hides its layers: give the"
                " module that it was made from"
            )
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError(f"layer {name!r} has hooks, which bounds cannot see: remove them")


class _Root(nn.Module):
    """Calls the network, so that one layer alone, and arguments with defaults, need no case."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class _Value(fx.Proxy):
    """A symbolic value; sizes are numbers, that of the batch a `Batch`."""

    tracer: "_Reader"

    @property
    def shape(self) -> "_Sizes":
        return _Sizes(self)

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return len(self.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        raise ValueError("forward calls len(x), which Python makes a plain number: write x.size(0)")

    @property
    def device(self) -> torch.device:
        return self.tracer.like().device

    @property
    def dtype(self) -> torch.dtype:
        return self.tracer.like().dtype


class _Sizes:
    """The shape of a symbolic value; for more than `size(0)` it is looked up on the example."""

    def __init__(self, value: _Value) -> None:
        self.value = value

    def __getitem__(self, at: int | slice) -> Any:
        if at == 0:
            return Batch(1)
        return tuple(self)[at]

    def __iter__(self) -> Iterator[int]:
        return iter((Batch(1), *self.value.tracer.sizes(self.value.node)))

    def __len__(self) -> int:
        return 1 + len(self.value.tracer.sizes(self.value.node))


class _Reader(fx.Tracer):
    """torch.fx's tracer, with the network's tensors kept aside as constants."""

    def __init__(self, example: Tensor | None) -> None:
        super().__init__()
        self.example = example
        self.constants: dict[str, Tensor] = {}
        self.layers: dict[str, nn.Module] = {}

    def read(self, root: nn.Module) -> Graph:
        try:
            self.trace(root)
        except (fx.proxy.TraceError, TypeError, NotImplementedError, AttributeError) as error:
            raise ValueError(
                f"model must be a fixed composition of layers, but {type(root.model).__name__}"
                f" could not be read symbolically: {error}"
            ) from error
        output = next(at for at in self.graph.nodes if at.op == "output").args[0]
        if not isinstance(output, fx.Node):
            raise ValueError(
                f"model must return one tensor, got {output}: wrap it in a module whose forward"
                " returns the logits alone"
            )
        return self.graph_to(output)

    def graph_to(self, output: fx.Node) -> Graph:
        """The graph of what has been read so far, up to one value."""
        order = [at for at in self.graph.nodes if at.op not in ("get_attr", "output")]
        names = _names(order)
        steps = [step for at in order[1:] for step in self._steps(at, names)]
        if names[output] == INPUT:
            raise ValueError("model must take one tensor and do something to it")
        return Graph(_with_last_use(_only_needed(steps, names[output])))

    def _steps(self, at: fx.Node, names: dict[fx.Node, str]) -> list[Step]:
        """The layers that stand for one call."""
        args = fx.node.map_arg(at.args, self._filled)
        kwargs = dict(fx.node.map_arg(at.kwargs, self._filled))
        if "input" in kwargs:
            args = (kwargs.pop("input"), *args)
        values = [a for a in _flat((args, kwargs)) if isinstance(a, fx.Node)]
        name, inputs = names[at], tuple(names[v] for v in values)
        if at.target in (*SUMS, *DIFFERENCES, *PRODUCTS, *QUOTIENTS, *NEGATIVES):
            steps = _arithmetic(name, at.target, args, kwargs, inputs)
        elif at.target in (torch.cat, torch.concat, torch.concatenate):
            steps = [(name, _concatenated(args, kwargs), inputs)]
        else:
            _check_values(name, args, values, two=isinstance(self._module(at), Add | Concat))
            layer = self._module(at) or layer_of(at.target, args[1:], kwargs)
            steps = [(name, layer, inputs)]
        return [self._checked(step, at, values) for step in steps]

    def _module(self, at: fx.Node) -> nn.Module | None:
        return self.layers[str(at.target)] if at.op == "call_module" else None

    def _filled(self, at: fx.Node) -> Any:
        return self.constants[str(at.target)] if at.op == "get_attr" else at

    def _checked(self, step: Step, at: fx.Node, values: list[fx.Node]) -> Step:
        """The layer not in place: bounds must not write over each other."""
        name, layer, inputs = step
        if getattr(layer, "return_indices", False):
            raise ValueError(f"layer {name!r} returns indices as well, which have no bounds")
        if not (_writes(at) or getattr(layer, "inplace", False)):
            return step
        if self._read_elsewhere(values[0]):
            raise ValueError(
                f"layer {name!r} writes over a value that is read elsewhere: use its result alone,"
                " x = x.relu_(), or a layer that is not in place"
            )
        layer = copy.copy(layer)
        layer.__dict__["inplace"] = False
        return name, layer, inputs

    def _read_elsewhere(self, value: fx.Node) -> bool:
        """Is the value, or what it is a view of, used more than once?"""
        while len(value.users) == 1:
            module = self._module(value) if value.op == "call_module" else None
            named = value.op in ("call_method", "call_function") and called(value.target) in ALIASES
            if not (named or isinstance(module, ALIASING)):
                return False
            value = value.all_input_nodes[0]
        return True

    def sizes(self, node: fx.Node) -> tuple[int, ...]:
        """The shape of one example of a value."""
        if self.example is None:
            raise ValueError("forward asks for sizes: give an example, trace(model, x[:1])")
        if node.op == "placeholder":
            return tuple(self.example.shape[1:])
        graph, modules = self.graph_to(node), nn.ModuleList(self.layers.values())
        with attacking(modules), torch.no_grad():
            # forward, because while torch.fx reads, a call of a module is read as well
            out = graph.run(self.example[:1], lambda node, *values: node.layer.forward(*values))
        return tuple(out.shape[1:])

    def like(self) -> Tensor:
        tensors = (*self.root.parameters(), *self.root.buffers())
        found = self.example if self.example is not None else next(iter(tensors), torch.zeros(()))
        return found

    # what torch.fx asks of a tracer

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in LEAVES or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        path = self.path_of_module(m)
        if self.is_leaf_module(m, path):
            self.layers[path] = m
        elif getattr(m, "_compiled_call_impl", None) is not None:
            return m.forward(*args, **kwargs)  # not what `m.compile()` made of it
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        return attr_val  # parameters are constants

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Value(node, self)

    def create_arg(self, a: Any) -> Any:
        if isinstance(a, _Sizes):
            return super().create_arg(tuple(a))
        if not isinstance(a, Tensor):
            return super().create_arg(a)
        name = f"constant {len(self.constants)}"
        self.constants[name] = a
        return self.create_node("get_attr", name, (), {})


def _flat(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, tuple | list):
        for part in tree:
            yield from _flat(part)
    else:
        yield tree


def _names(order: list[fx.Node]) -> dict[fx.Node, str]:
    """A place for each node; a layer that is used again gets a number."""
    names, used = {order[0]: INPUT}, Counter[str]()
    for at in order[1:]:
        name = str(at.target).removeprefix("model.") if at.op == "call_module" else at.name
        used[name] += 1
        names[at] = name if used[name] == 1 else f"{name}({used[name]})"
    return names


def _check_values(name: str, args: tuple, values: list[fx.Node], *, two: bool) -> None:
    """One value of the network, and it comes first."""
    if not two and (len(values) != 1 or not args or args[0] is not values[0]):
        raise ValueError(f"{name!r} must act on one value of the network, got {args}")


def _concatenated(args: Any, kwargs: dict[str, Any]) -> nn.Module:
    tensors, dim = args[0], kwargs.get("dim", args[1] if len(args) > 1 else 0)
    if not all(isinstance(part, fx.Node) for part in tensors):
        raise ValueError(f"torch.cat must join values of the network alone, got {tensors}")
    return Concat(dim)


def _arithmetic(
    name: str, target: Any, args: tuple, kwargs: dict[str, Any], inputs: tuple[str, ...]
) -> list[Step]:
    """Sums and differences of two values, and all four of one value and a constant."""
    if kwargs:
        given = ", ".join(f"{key}={value}" for key, value in kwargs.items())
        raise ValueError(f"{name!r} with {given} has no bounds, only plain arithmetic has")
    if target in NEGATIVES:
        return [(name, Scale(-1.0), inputs)]
    if len(inputs) == 2:
        return _of_two(name, target, inputs)
    (constant,) = (a for a in args if not isinstance(a, fx.Node))
    if isinstance(constant, Batch):
        constant._refuse()
    return _with_constant(name, target, constant, inputs, isinstance(args[0], fx.Node))


def _with_constant(
    name: str, target: Any, constant: Any, inputs: tuple[str, ...], first: bool
) -> list[Step]:
    """first: the value comes first, z - c and not c - z."""
    if target in DIFFERENCES and not first:
        return _negated(name, inputs[0], lambda minus: (name, Shift(constant), (minus,)))
    if target in QUOTIENTS and not first:
        raise ValueError(f"{name!r} divides by a value of the network, which has no bounds")
    (make,) = (make for targets, make in BY_CONSTANT.items() if target in targets)
    return [(name, make(constant), inputs)]


BY_CONSTANT: dict[tuple, Callable[[Any], nn.Module]] = {
    SUMS: Shift,
    DIFFERENCES: lambda constant: Shift(-constant),
    PRODUCTS: Scale,
    QUOTIENTS: Divide,
}


def _of_two(name: str, target: Any, inputs: tuple[str, ...]) -> list[Step]:
    if target in SUMS:
        return [(name, Add(), inputs)]
    if target in DIFFERENCES:
        return _negated(name, inputs[1], lambda minus: (name, Add(), (inputs[0], minus)))
    raise ValueError(
        f"{name!r} multiplies or divides two values of the network, which has no bounds: attention"
        " and gates have none here"
    )


def _negated(name: str, value: str, then: Any) -> list[Step]:
    return [(f"{name} (minus)", Scale(-1.0), (value,)), then(f"{name} (minus)")]


def _writes(at: fx.Node) -> bool:
    name = called(at.target)
    in_place = at.op != "call_module" and name.endswith("_") and not name.endswith("__")
    return in_place or at.target in IN_PLACE or bool(at.kwargs.get("inplace", False))


def _only_needed(steps: list[Step], output: str) -> list[Step]:
    """Without layers whose result never reaches the output."""
    needed, kept = {output}, []
    for name, layer, inputs in reversed(steps):
        if name in needed:
            needed.update(inputs)
            kept.append((name, layer, inputs))
    if INPUT not in needed:
        raise ValueError("model must depend on its input")
    return kept[::-1]


def _with_last_use(steps: list[Step]) -> tuple[Node, ...]:
    last = {name: i for i, (_, _, inputs) in enumerate(steps) for name in inputs}
    return tuple(
        Node(name, layer, inputs, tuple(n for n, k in last.items() if k == i))
        for i, (name, layer, inputs) in enumerate(steps)
    )
