// For buttons on nodes: what a node showed after its last run, and its neighbours in the graph.
import { app } from '../../scripts/app.js'

/** What the last run left on a node, such as `images`. */
export function outputOf(node) {
  return app.nodeOutputs?.[node.graph?.isRootGraph === false ? `${node.graph.id}:${node.id}` : node.id]
}

/** The node that an input is connected to. */
export function originOf(node, name) {
  const slot = node.inputs?.findIndex((input) => input.name === name) ?? -1
  let origin = slot < 0 ? null : node.getInputNode(slot)
  while (origin?.type === 'Reroute') origin = origin.getInputNode(0)
  return origin ?? undefined
}

/** The nodes that an output is connected to. */
export function targetsOf(node, slot) {
  return (node.getOutputNodes(slot) ?? []).flatMap((target) => (target.type === 'Reroute' ? targetsOf(target, 0) : target))
}
