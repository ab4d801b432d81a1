"""One hidden layer on MNIST: 784-128-10, SGD 0.01, batches of 500, 100 epochs. A lecture's program, its slips mended."""

import mulgil as torch
import mulgil.nn as nn
import mulgil.optim as optim
import mulgil.data.datasets as datasets
import mulgil.data.transforms as transforms
from mulgil.data import DataLoader
from mulgil import summary
from rich.progress import track as tqdm
import numpy as np

device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
print(f"Using device: {device}")

data_root = './data'

transform = transforms.Compose([
    # 데이터를 텐서로 변환
    transforms.ToTensor(),
    # 데이터 정규화 -> (-1,1) 사이에 위치
    transforms.Normalize(0.5, 0.5),
    # 현재 텐서를 1계 텐서로 변환
    transforms.Lambda(lambda x: x.view(-1)),
])

# 훈련용 데이터셋 정의
train_set = datasets.MNIST(
    root = data_root, train = True,
    download = True, transform = transform)

# 검증용 데이터셋 정의
test_set = datasets.MNIST(
    root = data_root, train = False,
    download = True, transform = transform)

# 미니 배치 사이즈 지정
batch_size = 500

# 훈련용 데이터로더: 셔플을 적용함
train_loader = DataLoader(
    train_set, batch_size = batch_size,
    shuffle = True)

# 검증용 데이터로더: 검증시에는 셔플을 필요로하지 않음
test_loader = DataLoader(
    test_set,  batch_size = batch_size,
    shuffle = False)

image, label = train_set[0]
for images, labels in train_loader:
    break

n_input = image.shape[0]
n_output = len(set(list(labels.data.numpy())))
n_hidden = 128


class Net(nn.Module):
    def __init__(self, n_input, n_output, n_hidden):
        super().__init__()
        self.l1 = nn.Linear(n_input, n_hidden)
        self.l2 = nn.Linear(n_hidden, n_output)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        x1 = self.l1(x)
        x2 = self.relu(x1)
        x3 = self.l2(x2)
        return x3


net = Net(n_input, n_output, n_hidden).to(device)

print(net)

for parameter in net.named_parameters():
    print(parameter)

print(summary(net, (784,)))

criterion = nn.CrossEntropyLoss()

lr = 0.01
optimizer = optim.SGD(net.parameters(), lr=lr)

num_epochs = 100

history = np.zeros((0,5))

for epoch in range(num_epochs):
    train_correct, train_loss = 0,0
    val_correct, val_loss = 0,0
    n_train, n_test = 0,0

    for inputs, labels in tqdm(train_loader):
        n_train += len(labels) # 누적된 결과가 사실상 전체 train dataset

        inputs = inputs.to(device)
        labels = labels.to(device)

        optimizer.zero_grad()

        outputs = net(inputs)
        loss = criterion(outputs, labels)
        loss.backward()
        optimizer.step()

        predicted = torch.max(outputs, 1)[1]

        train_loss += loss.item() * len(labels)
        train_correct += (predicted == labels).sum().item()

    for inputs_test, labels_test in tqdm(test_loader):
        n_test += len(labels_test) # 전체 test dataset

        inputs_test = inputs_test.to(device)
        labels_test = labels_test.to(device)

        optimizer.zero_grad()

        outputs_test = net(inputs_test)
        loss_test = criterion(outputs_test, labels_test)

        predicted_test = torch.max(outputs_test, 1)[1]

        val_loss += loss_test.item() * len(labels_test)
        val_correct += (predicted_test == labels_test).sum().item()

    train_loss, val_loss = train_loss / n_train, val_loss / n_test
    train_acc = train_correct / n_train
    val_acc = val_correct / n_test

    print(f'Epoch [{epoch+1}/{num_epochs}], loss: {train_loss: .5f} val_loss: {val_loss: .5f}, val_acc: {val_acc: .5f}')
    item = np.array([epoch+1, train_loss, train_acc, val_loss, val_acc])
    history = np.vstack((history, item))


# 은닉층이 추가된 모델
class Net2(nn.Module):
    def __init__(self, n_input, n_output, n_hidden):
        super().__init__()
        self.l1 = nn.Linear(n_input, n_hidden)
        self.l2 = nn.Linear(n_hidden, n_hidden)
        self.l3 = nn.Linear(n_hidden, n_output)
        self.relu = nn.ReLU()

    def forward(self, x):
        x1 = self.l1(x)
        x2 = self.relu(x1)
        x3 = self.l2(x2)
        x4 = self.relu(x3)
        x5 = self.l3(x4)
        return x5


print(Net2(n_input, n_output, n_hidden))
