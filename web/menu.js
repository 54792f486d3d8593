// For buttons on nodes: a menu under the pointer, widgets by name, and setting them as one step for Undo.
import { app } from '../../scripts/app.js'

/** A button below the node's other widgets. It is not saved: workflows store widget values by position. */
export function addButton(node, name, onClick) {
  // Nodes 2.0 calls this without an event.
  const button = node.addWidget('button', name, null, (...call) => onClick(call[4] ?? window.event), { serialize: false })
  button.serialize = false
  return button
}

/** Show items ({ text, run }; one without `run` is greyed out) where the event happened. */
export function showMenu(event, title, items) {
  // `title` is shown as text; `content` is read as HTML, and the texts may come from a workflow file.
  const entries = items.map(({ text, run }) => ({ title: text, callback: run, disabled: !run }))
  new LiteGraph.ContextMenu(entries, { event, title, className: 'dark' })
}

export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name)
}

/** Those of the named widgets whose value comes from another node. */
export function connected(node, names) {
  return names.filter((name) => node.inputs?.some((input) => input.widget?.name === name && input.link != null))
}

/** Set widgets by name and call `also`, as one step for Undo. */
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
