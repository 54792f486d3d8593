// Opens workflows of the earlier official ICEdit nodes: their DiptychCreate had two widgets, the picture and its upload
// button. Values are stored by position, so the button's value would be read as that of a newer widget, a number.
import { app } from '../../scripts/app.js'

const EARLIER_VALUES = 2

app.registerExtension({
  name: 'icedit.earlierWorkflows',
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (nodeData.name !== 'DiptychCreate') return
    const configure = nodeType.prototype.configure
    nodeType.prototype.configure = function (saved) {
      if (Array.isArray(saved?.widgets_values) && saved.widgets_values.length === EARLIER_VALUES) {
        saved = { ...saved, widgets_values: saved.widgets_values.slice(0, 1) }
      }
      return configure.call(this, saved)
    }
  }
})
