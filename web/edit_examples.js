// A button on Edit Instruction that offers one example of each kind of edit.
import { app } from '../../scripts/app.js'
import { addButton, connected, setWidgets, showMenu, tell } from './menu.js'

const EXAMPLES = {
  Recolour: 'make her hair dark green',
  Add: 'give him a red knitted scarf',
  Remove: 'remove the car on the left',
  Replace: 'turn the dog into a red fox',
  Background: 'change the background to a snowy mountain landscape',
  Clothes: 'dress her in a black leather jacket',
  Expression: 'make him smile',
  Light: 'make it night, lit by street lamps',
  Material: 'make the chair of clear glass',
  Style: 'turn it into a watercolor painting',
  Text: 'change the text on the sign to "OPEN"'
}

app.registerExtension({
  name: 'icedit.editExamples',
  nodeCreated(node) {
    if (node.comfyClass !== 'InContextEditInstruction') return
    addButton(node, 'Examples', (event) => {
      if (connected(node, ['editText']).length) {
        tell('warn', 'The instruction comes from another node', 'Write it there, or disconnect editText.')
        return
      }
      const items = Object.entries(EXAMPLES).map(([kind, text]) => ({
        text: `${kind}: ${text}`,
        run: () => setWidgets(node, { editText: text })
      }))
      showMenu(event, 'One plain command', items)
    })
  }
})
