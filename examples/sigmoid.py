"""A sigmoid network on MNIST: 784-1000-10, SGD 0.01, batches of 100, 5 epochs. The book DeZero's last step of part 4, first half."""

import mulgil
import mulgil.nn.functional as F
import numpy as np
from mulgil import optim as optimizers
from mulgil.data import DataLoader, datasets
from mulgil.nn import MLP


def f(x):
    x = x.flatten()  # (784,)로 평탄화
    x = x.astype(np.float32)  # 32비트 부동소수점으로 변환
    x /= 255.0  # 범위가 0.0~1.0사이가 되도록
    return x


max_epoch = 5
batch_size = 100
hidden_size = 1000

train_set = datasets.MNIST(train=True, transform=f, download=True)
test_set = datasets.MNIST(train=False, transform=f, download=True)
train_loader = DataLoader(train_set, batch_size, shuffle=True)
test_loader = DataLoader(test_set, batch_size, shuffle=False)

model = MLP((hidden_size, 10))
optimizer = optimizers.SGD(model.parameters(), lr=0.01)

for epoch in range(max_epoch):
    sum_loss, sum_acc = 0, 0

    for x, t in train_loader:
        y = model(x)
        loss = F.softmax_cross_entropy(y, t)
        acc = F.accuracy(y, t)
        model.cleargrads()
        loss.backward()
        optimizer.step()

        sum_loss += float(loss.data) * len(t)
        sum_acc += float(acc.data) * len(t)

    print('epoch: {}'.format(epoch+1))
    print('train loss: {:.4f}, accuracy: {:.4f}'.format(
        sum_loss / len(train_set), sum_acc / len(train_set)))

    sum_loss, sum_acc = 0, 0
    with mulgil.no_grad():
        for x, t in test_loader:
            y = model(x)
            loss = F.softmax_cross_entropy(y, t)
            acc = F.accuracy(y, t)
            sum_loss += float(loss.data) * len(t)
            sum_acc += float(acc.data) * len(t)

    print('test loss: {:.4f}, accuracy: {:.4f}'.format(
        sum_loss / len(test_set), sum_acc / len(test_set)))
