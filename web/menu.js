// What our buttons share: a menu under the pointer, widgets by name, and a step that Undo knows.
import { app } from '../../scripts/app.js'

/** A button below the node's other widgets; saved neither in workflows, whose widgets have positions, nor in prompts. */
export function addButton(node, name, onClick) {
  // Nodes 2.0 calls without an event.
  const button = node.addWidget('button', name, null, (...call) => onClick(call[4] ?? window.event), { serialize: false })
  button.serialize = false
  return button
}

/** Show items ({ text, run }; one without `run` is greyed out) where the event happened. */
export function showMenu(event, title, items) {
  // A `title` is shown as text; `content` would be taken for HTML, and a workflow file may hold any.
  const entries = items.map(({ text, run }) => ({ title: text, callback: run, disabled: !run }))
  new LiteGraph.ContextMenu(entries, { event, title, className: 'dark' })
}

export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name)
}

/** Names of those widgets whose value comes from another node. */
export function connected(node, names) {
  return names.filter((name) => node.inputs?.some((input) => input.widget?.name === name && input.link != null))
}

/** Set widgets by name, and whatever else `also` does, as one step. */
export function setWidgets(node, values, also = () => {}) {
  node.graph?.beforeChange()
  for (const [name, value] of Object.entries(values)) {
    const widget = widgetOf(node, name)
    if (!widget) continue
    widget.value = value
    widget.callback?.(value, app.canvas, node)
  }
  also()
  node.graph?.afterChange()
  node.setDirtyCanvas(true, true)
}

export function tell(severity, summary, detail) {
  app.extensionManager.toast.add({ severity, summary, detail, life: 6000 })
}
