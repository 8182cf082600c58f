import torch.optim as optim
from torchvision.models import resnet18

net = resnet18(num_classes=10).cuda()
optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)  #! WD501
# ── mended ──
import torch.optim as optim
from torchvision.models import resnet18

net = resnet18(num_classes=10).cuda()
optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
