// Opens workflows of earlier nodes. DiptychCreate of the earlier official pack had two widgets, the picture and its upload
// button: values are stored by position, so the button's value would be read as that of a newer widget, a number. In
// earlier versions of this pack a value of `fit` had another name.
import { app } from '../../scripts/app.js'
import { widgetOf } from './menu.js'

const EARLIER_VALUES = 2
const RENAMED = new Map([['width 512', 'width']])

const present = (value) => RENAMED.get(value) ?? value

app.registerExtension({
  name: 'icedit.earlierWorkflows',
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== 'DiptychCreate') return
    const configure = nodeType.prototype.configure
    nodeType.prototype.configure = function (saved) {
      let values = saved?.widgets_values
      if (Array.isArray(values)) {
        if (values.length === EARLIER_VALUES) values = values.slice(0, 1)
        saved = { ...saved, widgets_values: values.map(present) }
      }
      return configure.call(this, saved)
    }
  },
  nodeCreated(node) {
    if (node.comfyClass !== 'DiptychCreate') return
    const fit = widgetOf(node, 'fit')
    const callback = fit.callback
    // How the page fills in a prompt in the API's format.
    fit.callback = function (value, ...rest) {
      if (RENAMED.has(value)) fit.value = present(value)
      return callback?.call(this, present(value), ...rest)
    }
  }
})
